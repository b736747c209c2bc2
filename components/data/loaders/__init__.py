"""Loaders: the sample stream of a shards tree as batches of tensors, by one of several backends.

`open_training_loader` follows the stream of `components.data.order` with the plan of `components.data.augment`;
`open_evaluation_loader` reads a split once, in index order, centrally cropped.
"""

from components.data.cache import CacheConfig
from components.data.index import read_index, read_labels
from components.data.loaders.batch import Batch
from components.data.loaders.opening import BACKENDS, open_evaluation_loader, open_training_loader

__all__ = [
    "BACKENDS",
    "Batch",
    "CacheConfig",
    "open_evaluation_loader",
    "open_training_loader",
    "read_index",
    "read_labels",
]
