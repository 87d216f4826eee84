"""A data set: labelled uint8 images of one size, accessed by index, in memory or read as needed."""

import copy
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sagan.config import Config, ConfigError, DataConfig, UserError
from sagan.data.decoding import fit_arrays
from sagan.data.reading import read_ahead
from sagan.data.rules import Rule
from sagan.runtime.device import cores
from sagan.runtime.distributed import is_main
from sagan.runtime.wording import counted, printable

log = logging.getLogger(__name__)

MOST_CLASSES = 100_000  # more are the numbers of something else, such as an id
A_LABEL = f"an integer from 0 to {MOST_CLASSES - 1:,}"
CHUNK_BYTES = 16 * 2**20
FEW_CHUNKS = 8  # too few to start processes for


class Dataset:
    """Images of one size with labels. Subclasses define how `batch` gets the pixels."""

    residence = "read as needed"
    identity: str | None = None
    """Fingerprint that a resumed run compares, for data without a path."""
    workers = min(cores(), 16)  # processes that read a whole data set
    rule: Rule | None = None  # what every image satisfies, if the source says so

    def __init__(self, labels: Tensor, class_names: list[str], size: tuple[int, int], channels: int, source: str):
        self.labels = labels  # (N,), int64; all 0 if unconditional
        self.class_names = distinct(class_names)  # [] if unconditional
        self.size: tuple[int, int] = (size[0], size[1])  # height, width
        self.channels = channels
        self.source = source  # the source and its location, as text
        self.warnings: list[str] = []  # problems noticed when it was opened
        self.failures: dict[int, str] = {}  # index -> path and reason of images that could not be read

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the images with these indices, in this order: uint8 (n, C, H, W)."""
        raise NotImplementedError

    def readable(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the readable images among these indices, and their indices: fewer only if errors are skipped."""
        return self.batch(indices), indices

    def usable(self) -> Tensor:
        """Return the indices of all images that can be read. If errors are skipped, this reads every image."""
        return torch.arange(len(self))

    @property
    def nbytes(self) -> int:
        """Return the size of all images as uint8, in bytes."""
        return len(self) * self.channels * self.size[0] * self.size[1]

    @property
    def skipped(self) -> list[str]:
        """Return path and reason of every image left out so far."""
        return [self.failures[i] for i in sorted(self.failures)]

    def note_failures(self, failures: dict[int, str]) -> None:
        """Count images as left out and log them, each once."""
        for index, reason in failures.items():
            if index not in self.failures:
                self.failures[index] = printable(reason)
                log.warning("left out: %s", self.failures[index])

    def chunks(self, activity: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all readable images in order, as (images, indices), decoded on all cores a few chunks ahead.

        A progress bar titled `activity` appears after a second.
        """
        size = max(1, min(256, CHUNK_BYTES * len(self) // max(self.nbytes, 1)))
        parts = torch.arange(len(self)).split(size)
        workers = self.workers if len(parts) > FEW_CHUNKS else 0
        hidden = not is_main() or None  # None: unless it goes to a terminal
        with tqdm(total=len(self), desc=activity, unit=" images", delay=1, leave=False, disable=hidden) as bar:
            for part, (images, indices) in zip(parts, read_ahead(self, self.readable, parts, workers), strict=True):
                yield images, indices
                bar.update(len(part))

    def load(self) -> "MemoryDataset":
        """Return this data set with all readable images in memory. Raise UserError if there are none."""
        images = torch.empty(len(self), self.channels, *self.size, dtype=torch.uint8)
        kept, count = [], 0
        for part, indices in self.chunks("reading images"):
            images[count : count + len(part)] = part
            count += len(part)
            kept.append(indices)
        if count == 0:
            raise UserError(f"{self.source}: no image of {len(self):,} could be read; first: {self.skipped[0]}")
        loaded = MemoryDataset(images[:count], self.labels[torch.cat(kept)], self.class_names, self.source)
        loaded.warnings, loaded.failures = list(self.warnings), dict(self.failures)
        loaded.identity = self.identity
        loaded.rule = self.rule
        return loaded

    def forget_cached(self) -> None:
        """Drop the system's cache of the files, if the source can, so that a benchmark measures the disk."""

    def to(self, device: torch.device | str, spare: int = 0) -> "Dataset":
        """Return the data set with its images on that device if they are in memory and fit; otherwise return itself.

        `spare` bytes of a GPU's memory stay free.
        """
        return self

    def forget_labels(self) -> None:
        """Become unconditional: set all labels to 0 and drop the class names."""
        self.labels, self.class_names = torch.zeros_like(self.labels), []
        self.__dict__.pop("content", None)

    @cached_property
    def content(self) -> tuple[str, Tensor]:
        """Return the SHA-256 of the readable images as uint8 (N, C, H, W), and their indices. It reads every image."""
        digest, kept = hashlib.sha256(), [torch.empty(0, dtype=torch.long)]
        for images, indices in self.chunks("fingerprinting"):
            digest.update(images.cpu().contiguous().numpy().data)
            kept.append(indices)
        return digest.hexdigest(), torch.cat(kept)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of images, labels and class names; equal for equal content, wherever it is stored."""
        images_sha256, indices = self.content
        return fingerprint(images_sha256, self.labels[indices], self.class_names, self.size, self.channels)


class MemoryDataset(Dataset):
    """All images as one uint8 tensor (N, C, H, W), on the CPU or a GPU."""

    residence = "in memory"
    workers = 0

    def __init__(self, images: Tensor, labels: Tensor, class_names: list[str], source: str):
        super().__init__(labels, class_names, (images.shape[2], images.shape[3]), images.shape[1], source)
        self.images = images

    def batch(self, indices: Tensor) -> Tensor:
        return self.images[indices.to(self.images.device)]

    def to(self, device: torch.device | str, spare: int = 0) -> Dataset:
        device = torch.device(device)
        if self.images.device.type == device.type and device.index in (None, self.images.device.index):
            return self
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            if self.nbytes > min(free // 2, free - spare):
                log.warning("the images (%d MiB) would fill the GPU; they stay in main memory", self.nbytes >> 20)
                return self
        moved = copy.copy(self)
        moved.images = self.images.to(device)
        return moved


class ArrayDataset(Dataset):
    """Decoded images in one array, uint8 (N, h, w, c), converted to size and channels as they are read."""

    def __init__(self, arrays: np.ndarray, labels: Tensor, class_names, size, channels: int, source: str):
        super().__init__(labels, class_names, size, channels, source)
        self.arrays = arrays

    def batch(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(fit_arrays(self.arrays[indices.cpu().numpy()], self.size, self.channels))


def distinct(names: Sequence[str]) -> list[str]:
    """Return names with their number appended to those that occur more than once, such as ImageNet's two cranes."""
    occurrences = Counter(names)
    return [name if occurrences[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]


def fingerprint(
    images_sha256: str, labels: Tensor, class_names: list[str], size: tuple[int, int], channels: int
) -> str:
    """Return the fingerprint of a data set from the digest of its images and its other attributes."""
    head = {"count": len(labels), "size": list(size), "channels": channels, "classes": class_names}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(images_sha256.encode())
    digest.update(labels.cpu().numpy().astype("<i8").data)
    return digest.hexdigest()


def with_num_classes(config: Config, dataset: Dataset) -> Config:
    """Return the configuration with the number of classes that `resolve_num_classes` finds."""
    return replace(config, data=replace(config.data, num_classes=resolve_num_classes(config.data, dataset)))


def resolve_num_classes(data: DataConfig, dataset: Dataset) -> int:
    """Return the number of classes of the model: `data.num_classes`, or that of the data; 0 means unconditional.

    Raise ConfigError if the two differ.
    """
    names = dataset.class_names
    if data.num_classes in (None, 0, len(names)):
        return len(names) if data.num_classes is None else data.num_classes
    first = printable(", ".join(names[:3]), keep="") + (", ..." if len(names) > 3 else "")
    found = f"{counted(len(names), 'class', 'classes')} ({first})" if names else "no classes"
    raise ConfigError(
        f"data.num_classes {data.num_classes}: {dataset.source} has {found}; null takes what the data have"
    )
