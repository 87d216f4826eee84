"""Opening of the data set that the options name."""

from collections.abc import Sequence
from pathlib import Path

from sagan.config import FROM_PYTHON, STORED, ConfigError, DataConfig, Setting
from sagan.config.dotted import is_dotted
from sagan.data.archives import open_archive
from sagan.data.dataset import Dataset, resolve_num_classes
from sagan.data.folder import open_folder
from sagan.data.hugging_face import open_hugging_face
from sagan.data.own import open_own
from sagan.data.packed import open_packed
from sagan.data.pairs import PAIRS, PairsDataset
from sagan.data.shapes import ShapesDataset
from sagan.data.zipped import open_zip


def open_data(data: DataConfig, split: str = "train", download: bool = True) -> Dataset:
    """Open the data set that the options name, in memory if it fits into `data.memory_gb`.

    Pass `download` false if only a file, and no person, has named the source or its path. Raise UserError if the data
    are missing or unreadable, and ConfigError if the options contradict them.
    """
    return in_memory(find_data(data, split, download), data.memory_gb)


def find_data(data: DataConfig, split: str = "train", download: bool = True) -> Dataset:
    """Open the data set that the options name without reading an image. Raise errors as `open_data` does.

    A class of your own is read once, for its labels.
    """
    dataset = open_source(data, split, download)
    if data.num_classes == 0:
        dataset.forget_labels()
    resolve_num_classes(data, dataset)  # before hours of reading
    return dataset


def may_download(given: Sequence[Setting], saved: DataConfig) -> bool:
    """Return whether the user's settings, and not only a file's options `saved`, say where to put downloaded data."""
    keys = {setting.key for setting in given}
    return "path" in keys or ("source" in keys and saved.path is None)


def in_memory(dataset: Dataset, memory_gb: float) -> Dataset:
    """Return the data set, read into memory if it fits into that many GiB."""
    return dataset.load() if dataset.nbytes <= memory_gb * 2**30 else dataset


def open_source(data: DataConfig, split: str, download: bool = True) -> Dataset:
    """Open the data set of `data.source` without decoding any image."""
    if data.source == "shapes":
        return ShapesDataset(data.size, data.channels, split)
    if data.source == FROM_PYTHON:
        raise ConfigError(
            f"data.source {FROM_PYTHON}: the run was given a data set from Python; give it again, as dataset=..."
        )
    if data.source in PAIRS:
        return PairsDataset(data.source, data.size, data.channels, split)
    if is_dotted(data.source):
        return open_own(data, split)
    if data.source in STORED:
        if data.path is None:
            raise ConfigError(f"data.path: data.source {data.source} needs a path")
        if data.source == "huggingface":
            return open_hugging_face(data.path, data.size, data.channels, data.on_error, split, download)
        if split != "train":
            raise ConfigError(
                f"split {split!r}: a {data.source} data set has only the split train; give another data.path"
            )
        path = Path(data.path).expanduser()
        if data.source == "folder":
            return open_folder(path, data.size, data.channels, data.on_error)
        if data.source == "zip":
            return open_zip(path, data.size, data.channels, data.on_error)
        return open_packed(path, data.size, data.channels)
    path = Path(data.path or "data").expanduser()
    return open_archive(data.source, path, data.size, data.channels, split, download)
