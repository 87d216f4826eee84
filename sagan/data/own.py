"""Data sets from outside this package: `data.source` is the path of a class, such as my_module.MyDataset."""

from typing import Any

from sagan.config import ConfigError, DataConfig, UserError
from sagan.config.dotted import already_imported, import_path
from sagan.data.dataset import Dataset
from sagan.data.given import read_given


def is_imported(source: str) -> bool:
    """Return whether the class of a source is in a module that is already imported, so that opening it imports nothing.

    It must have a length and items by index. Otherwise a file could have any imported class instantiated.
    """
    found = already_imported(source)
    return isinstance(found, type) and hasattr(found, "__getitem__") and hasattr(found, "__len__")


def open_own(data: DataConfig, split: str) -> Dataset:
    """Open MyDataset(path, size, channels, split), a map-style data set of (uint8 image (C, H, W), int label).

    All items are read once. Raise ConfigError if the class cannot be imported or an item does not fit the
    configuration, UserError if the class cannot open its data.
    """
    kind: Any = import_path(data.source, "data.source")
    try:
        given = kind(path=data.path, size=data.size, channels=data.channels, split=split)
    except ConfigError:
        raise
    except Exception as error:
        raise UserError(f"data.source {data.source}: cannot be opened: {type(error).__name__}: {error}") from error
    where = "" if data.path is None else f" in {data.path}"
    return read_given(given, data, f"{data.source} ({split}){where}")
