"""Train a network on shards, resumable at any moment."""
