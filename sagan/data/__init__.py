"""Data: any source becomes uint8 images of one size with labels, and then a sequence of training batches."""

from sagan.data.batches import TrainingBatches, to_float
from sagan.data.dataset import Dataset, MemoryDataset
from sagan.data.describe import describe
from sagan.data.opening import find_data, in_memory, open_data, resolve_num_classes
from sagan.data.packed import pack

__all__ = [
    "Dataset",
    "MemoryDataset",
    "TrainingBatches",
    "describe",
    "find_data",
    "in_memory",
    "open_data",
    "pack",
    "resolve_num_classes",
    "to_float",
]
