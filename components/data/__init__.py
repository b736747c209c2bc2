"""Samples: shard format, sample order, augmentation plan, loaders."""
