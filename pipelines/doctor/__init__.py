"""What this machine can and cannot do, each with its cure: the questions, and the command that asks them."""
