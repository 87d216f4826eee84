"""Data: every source becomes uint8 images of one size with labels, and then a sequence of training batches."""

from sagan.data.batches import TrainingBatches, to_float
from sagan.data.dataset import Dataset, MemoryDataset, resolve_num_classes, with_num_classes
from sagan.data.opening import find_data, in_memory, may_download, open_data
from sagan.data.packed import pack
from sagan.data.summary import summarize

__all__ = [
    "Dataset",
    "MemoryDataset",
    "TrainingBatches",
    "find_data",
    "in_memory",
    "may_download",
    "open_data",
    "pack",
    "resolve_num_classes",
    "summarize",
    "to_float",
    "with_num_classes",
]
