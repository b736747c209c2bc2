"""Turn a snapshot into WebDataset shards with an index and statistics."""
