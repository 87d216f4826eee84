"""A data set given from Python: any `torch.utils.data.Dataset` of images and labels."""

import logging
import operator
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from sagan.config import ConfigError, DataConfig, UserError
from sagan.config.errors import one_line
from sagan.config.types import shown
from sagan.data.dataset import A_LABEL, MOST_CLASSES, Dataset, MemoryDataset, resolve_num_classes
from sagan.runtime.distributed import is_main

log = logging.getLogger(__name__)
GIVE_AGAIN = "give it again: sagan.{}, dataset=...)"
READ_TWICE = 4  # images


def wrap_dataset(given: Any, data: DataConfig) -> Dataset:
    """Return a map-style data set of (uint8 image (C, H, W), int label) in the form that training and evaluation read.

    Its digest of all images identifies it when a run is resumed. Raise errors as `read_given` does.
    """
    found = read_given(given, data, f"{type(given).__name__} given from Python")
    if data.num_classes == 0:
        found.forget_labels()
    resolve_num_classes(data, found)
    found.identity = found.fingerprint
    return found


def read_given(given: Any, data: DataConfig, source: str) -> Dataset:
    """Return a map-style data set with all its labels; `source` describes it in messages.

    Every item is read once for its label. The images are kept if they all fit into `data.memory_gb`; otherwise they are
    read again as needed. Class names come from `given.classes` if it exists. Raise ConfigError, naming the index, if an
    item has another shape or type than the configuration says.
    """
    if not isinstance(given, Sized) or not hasattr(given, "__getitem__"):
        raise ConfigError(f"dataset {type(given).__name__}: expected a data set with a length and items by index")
    count, (height, width) = len(given), data.size
    if count == 0:
        raise UserError(f"dataset {type(given).__name__}: it is empty")
    keep = count * data.channels * height * width <= data.memory_gb * 2**30
    images = torch.empty((count if keep else 0, data.channels, height, width), dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.long)
    hidden = not is_main() or None  # None: unless it goes to a terminal
    for i in tqdm(range(count), desc="reading images", unit=" images", delay=1, leave=False, disable=hidden):
        image, labels[i] = read_item(given, i, data)
        if i < READ_TWICE and not torch.equal(image, read_item(given, i, data)[0]):
            raise ConfigError(
                f"dataset[{i}]: a second reading gives another image, so a run could never be resumed; leave random "
                "transforms to data.flip and training.diffaugment"
            )
        if keep:
            images[i] = image
    names = class_names(given, int(labels.max()) + 1)
    if keep:
        return MemoryDataset(images, labels, names, source)
    return GivenDataset(given, labels, names, data, source)


class GivenDataset(Dataset):
    """A data set from Python that is read as needed."""

    def __init__(self, given: Any, labels: Tensor, names: list[str], data: DataConfig, source: str):
        super().__init__(labels, names, data.size, data.channels, source)
        self.given = given
        self.data = data

    def batch(self, indices: Tensor) -> Tensor:
        # Copied one by one: a data set may return the same memory each time, with another image.
        return torch.stack([read_item(self.given, i, self.data)[0].clone() for i in indices.tolist()])


def read_item(given: Any, index: int, data: DataConfig) -> tuple[Tensor, int]:
    """Return the image and the label of an item.

    Raise ConfigError if either has the wrong type or shape, and UserError if the data set fails to read the item.
    """
    try:
        item = given[index]
    except Exception as error:  # it is the user's own code
        raise UserError(f"dataset[{index}]: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ConfigError(f"dataset[{index}]: {type(item).__name__}, expected a pair (image, label)")
    if not isinstance(item[0], (Tensor, np.ndarray)):
        raise ConfigError(
            f"dataset[{index}]: the image is a {type(item[0]).__name__}, expected a uint8 tensor (C, H, W)"
        )
    image, label = as_tensor(item[0], index), item[1]
    expected = (data.channels, *data.size)
    if image.dtype != torch.uint8 or tuple(image.shape) != expected:
        found = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
        raise ConfigError(
            f"dataset[{index}]: the image is {found}, expected uint8 {expected} (data.resolution, data.channels)"
        )
    try:
        number = operator.index(label)
    except (TypeError, ValueError):
        number = -1
    if isinstance(label, bool) or not 0 <= number < MOST_CLASSES:
        raise ConfigError(f"dataset[{index}]: the label is {shown(label)}, expected {A_LABEL}")
    return image, number


def as_tensor(image: Tensor | np.ndarray, index: int) -> Tensor:
    """Return an image as a tensor. Raise ConfigError, naming the index, for a dtype that torch does not have."""
    if isinstance(image, Tensor):
        return image
    try:
        return torch.from_numpy(np.ascontiguousarray(image))  # torch has no negative strides, as of a flipped array
    except (TypeError, ValueError):
        raise ConfigError(f"dataset[{index}]: the image is an array of {image.dtype}, expected uint8") from None


def class_names(given: Any, count: int) -> list[str]:
    """Return the names of the classes, or their numbers if the data set has no `classes` or too few.

    A `torch.utils.data.Subset` has those of its whole data set.
    """
    whole = given
    while isinstance(whole, Subset):
        whole = whole.dataset
    names = getattr(whole, "classes", None)
    numbers = [str(c) for c in range(count)]
    if not isinstance(names, (Sequence, np.ndarray)) or isinstance(names, str):
        return numbers
    if len(names) < count:
        log.warning("the data set's `classes` has %d names for %d classes: numbers are used", len(names), count)
        return numbers
    return [str(name) for name in names]
