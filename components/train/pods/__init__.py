"""Training across pods: who is who, how they find each other, and what happens when one of them dies."""
