"""From the data options to an open data set."""

from pathlib import Path

from sagan.config import ConfigError, DataConfig
from sagan.data.archives import open_archive
from sagan.data.dataset import Dataset
from sagan.data.folder import open_folder
from sagan.data.packed import open_packed
from sagan.data.pairs import PAIRS, PairsDataset
from sagan.data.shapes import ShapesDataset
from sagan.runtime.wording import printable


def open_data(data: DataConfig, split: str = "train", download: bool = True) -> Dataset:
    """Open the data set that the options name, in memory if it fits into `data.memory_gb`.

    `download` is false if nobody but a file has named the source or its place. Raise UserError for data that are
    missing or unreadable, ConfigError for options that contradict them.
    """
    return in_memory(find_data(data, split, download), data.memory_gb)


def find_data(data: DataConfig, split: str = "train", download: bool = True) -> Dataset:
    """Open the data set that the options name without reading an image. Raise as `open_data` does."""
    dataset = open_source(data, split, download)
    if data.num_classes == 0:
        dataset.forget_labels()
    resolve_num_classes(data, dataset)  # before hours of reading
    return dataset


def in_memory(dataset: Dataset, memory_gb: float) -> Dataset:
    """Return the data set read into memory if it fits into so many GiB; otherwise itself."""
    return dataset.load() if dataset.nbytes <= memory_gb * 2**30 else dataset


def open_source(data: DataConfig, split: str, download: bool = True) -> Dataset:
    """Open the data set of `data.source` without decoding anything."""
    if data.source == "shapes":
        return ShapesDataset(data.size, data.channels, split)
    if data.source == "dataset":
        raise ConfigError(
            "data.source dataset: the run was given a data set from Python; give it again, as dataset=..."
        )
    if data.source in PAIRS:
        return PairsDataset(data.source, data.size, data.channels, split)
    if data.source in ("folder", "packed"):
        if data.path is None:
            raise ConfigError(f"data.path: data.source {data.source} needs one")
        if split != "train":
            raise ConfigError(f"split {split!r}: a {data.source} data set is one split; give another data.path")
        path = Path(data.path).expanduser()
        if data.source == "folder":
            return open_folder(path, data.size, data.channels, data.on_error)
        return open_packed(path, data.size, data.channels)
    path = Path(data.path or "data").expanduser()
    return open_archive(data.source, path, data.size, data.channels, split, download)


def resolve_num_classes(data: DataConfig, dataset: Dataset) -> int:
    """Return the number of classes of the model: `data.num_classes`, or that of the data; 0 means unconditional.

    Raise ConfigError if the data have another number.
    """
    names = dataset.class_names
    if data.num_classes in (None, 0, len(names)):
        return len(names) if data.num_classes is None else data.num_classes
    found = f"{len(names)} classes ({printable(', '.join(names[:3]), keep='')}{', ...' if len(names) > 3 else ''})"
    found = found if names else "no classes"
    raise ConfigError(
        f"data.num_classes {data.num_classes}: {dataset.source} has {found}; null takes what the data have"
    )
