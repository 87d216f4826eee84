"""Data sets that the package `datasets` opens: image folders, Parquet files and those on the Hugging Face Hub."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagan.config import UserError
from sagan.config.errors import one_line
from sagan.data.archives import ONLY_A_FILE
from sagan.data.dataset import A_LABEL, MOST_CLASSES
from sagan.data.decoding import UnreadableImage, read_image
from sagan.data.folder import FolderDataset
from sagan.runtime.extras import require_extra
from sagan.runtime.wording import counted


class HuggingFaceDataset(FolderDataset):
    """The images of a column, decoded as needed by the same rules as files."""

    def __init__(
        self, table: Any, column: str, labels: Tensor, class_names, size, channels: int, source: str, on_error
    ):
        paths = [Path(f"{source}, row {i}") for i in range(len(table))]
        super().__init__(paths, labels, class_names, size, channels, source, on_error)
        self.table = table
        self.column = column

    def decoded(self, index: int) -> np.ndarray:
        cell = self.table[index][self.column]
        if cell is None:
            raise UnreadableImage(f"{self.paths[index]}: no image")
        content = io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]
        return read_image(content, self.size, self.channels, self.paths[index])


def open_hugging_face(
    path: str, size: tuple[int, int], channels: int, on_error: str, split: str, download: bool
) -> HuggingFaceDataset:
    """Open a split of a local folder, or of a data set on the Hub: `user/name`, or `user/name@revision` for a version.

    Take the first column of images, and the first of class labels or else an integer column `label`; without either
    there are no classes. Raise UserError if the package is missing or the data set cannot be opened.
    """
    require_extra("hub", ("datasets",), "data.source huggingface")
    import datasets

    local = Path(path).expanduser()
    if not download and not local.exists():
        raise UserError(ONLY_A_FILE.format(source="huggingface", path=path))
    name, _, revision = (str(local), "", "") if local.exists() else path.partition("@")
    try:
        table: Any = datasets.load_dataset(name, split=split, revision=revision or None)
    except Exception as error:  # network, disk, format, split: each raises its own type
        reason = one_line(error) or type(error).__name__
        raise UserError(f"data.path {path}: data.source huggingface cannot open the split {split}: {reason}") from error
    if not len(table):
        raise UserError(f"data.path {path}: the split {split} is empty")
    features = table.features
    pictures = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if not pictures:
        raise UserError(f"data.path {path}: no column of images among {', '.join(features)}")
    column = next((c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if column is None and "label" in features and "int" in str(getattr(features["label"], "dtype", "")):
        column = "label"
    labels, names = torch.zeros(len(table)).long(), []
    if column is not None:
        cells = np.asarray(table.with_format("numpy")[column][:])
        if cells.ndim != 1 or table.data.column(column).null_count:  # masks of a segmentation, or cells without a label
            raise UserError(f"data.path {path}: the column {column} has other cells than labels, expected {A_LABEL}")
        labels = torch.from_numpy(cells.astype(np.int64))
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= MOST_CLASSES:
            raise UserError(
                f"data.path {path}: the column {column} has the label {low if low < 0 else high}, expected {A_LABEL}"
            )
        names = getattr(features[column], "names", None) or [str(c) for c in range(high + 1)]
        if high >= len(names):
            raise UserError(
                f"data.path {path}: the column {column} has the label {high}, but only {counted(len(names), 'name')}"
            )
    undecoded = table.select_columns([pictures[0]]).cast_column(pictures[0], datasets.Image(decode=False))
    source = f"huggingface {path} ({split})"
    return HuggingFaceDataset(undecoded, pictures[0], labels, names, size, channels, source, on_error)
