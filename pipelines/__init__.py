"""What chains the steps: the table of steps, the ways to run it, the command line."""
