"""Images in a zip archive, with class folders, or with labels as the tools of the StyleGAN family write them.

An archive is read in place. Its entries are decoded by the same rules as files.
"""

import io
import json
import os
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from sagan.config import UserError
from sagan.config.types import shown
from sagan.data.dataset import A_LABEL, MOST_CLASSES
from sagan.data.decoding import EXTENSIONS, UnreadableImage, read_image, reason
from sagan.data.folder import LABELS, FolderDataset, is_image
from sagan.runtime.wording import counted

LARGEST = 2**29  # bytes of an entry; a small file can claim to hold any number
LARGEST_LIST = 2**27  # of dataset.json; ImageNet's has 2**26, and reading takes several times as much memory


class ZipDataset(FolderDataset):
    """Image files in a zip archive, decoded as needed."""

    opened: tuple[int, ZipFile] | None = None

    def __init__(self, path: Path, names: list[str], labels: Tensor, class_names, size, channels: int, on_error: str):
        paths = [path / name for name in names]  # for errors
        super().__init__(paths, labels, class_names, size, channels, f"archive {path}", on_error)
        self.path = path
        self.names = names

    def decoded(self, index: int) -> np.ndarray:
        try:
            archive = self.archive()
            if archive.getinfo(self.names[index]).file_size > LARGEST:
                raise ValueError(f"more than {LARGEST >> 20} MiB")
            content = archive.read(self.names[index])
        except Exception as error:  # a damaged entry, or one that is compressed or encrypted in an unknown way
            raise UnreadableImage(f"{self.paths[index]}: {reason(error)}") from error
        return read_image(io.BytesIO(content), self.size, self.channels, self.paths[index])

    def archive(self) -> ZipFile:
        """Return this process's own handle of the archive, because processes that share a handle share its position."""
        if self.opened is None or self.opened[0] != os.getpid():
            self.opened = os.getpid(), ZipFile(self.path)
        return self.opened[1]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "opened"}


def open_zip(path: Path, size: tuple[int, int], channels: int, on_error: str) -> ZipDataset:
    """List the images in an archive without decoding any.

    If the archive holds dataset.json, that file lists the labels, or says that there are none. Otherwise folders are
    classes, sorted by name. A single outer folder around all images makes no difference. Raise UserError if the archive
    cannot be read, has no images, mixes loose images with class folders, or has dataset.json elsewhere.
    """
    try:
        with ZipFile(path) as archive:
            entries = list(dict.fromkeys(archive.namelist()))  # of two entries with one name, the last one counts
            place = next((e for e in entries if not is_hidden(e) and PurePosixPath(e).name == LABELS), None)
            if place and archive.getinfo(place).file_size > LARGEST_LIST:
                raise BadZipFile(f"{place} has more than {LARGEST_LIST >> 20} MiB")
            listed = archive.read(place) if place else None
    except Exception as error:  # zipfile and its decompressors raise nearly anything for a damaged archive
        raise UserError(f"data.path {path}: cannot be read as a zip archive: {reason(error)}") from error
    names = sorted(filter(is_image_entry, entries))
    if backslash := next((name for name in names if "\\" in name), None):
        raise UserError(f"data.path {path}: {shown(backslash)}: a backslash in a name; folders are separated by /")
    if not names:
        raise UserError(f"data.path {path}: no images in it; looked for {' '.join(sorted(EXTENSIONS))}")
    if place is None or listed is None:
        names, labels, class_names = by_folder(path, names)
    else:
        labels, class_names = listed_labels(path, place, listed, names)
    return ZipDataset(path, names, labels, class_names, size, channels, on_error)


def is_image_entry(name: str) -> bool:
    """Return whether an entry is an image, and neither hidden nor in a hidden folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not is_hidden(name) and not name.endswith("/") and is_image(parts[-1])


def is_hidden(name: str) -> bool:
    """Return whether an entry, or a folder around it, is hidden or holds what macOS adds."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def listed_labels(path: Path, place: str, content: bytes, names: list[str]) -> tuple[Tensor, list[str]]:
    """Return the labels of the images according to dataset.json, and the numbers of the classes as their names.

    `place` is the name of that entry: the names in it are relative to its folder. Raise UserError unless all images are
    in that folder and have an integer label.
    """
    where, folder = f"data.path {path}: {shown(place)}", place.removesuffix(LABELS)
    if outside := next((name for name in names if not name.startswith(folder)), None):
        raise UserError(f"{where}: expected in the folder around all images, but {shown(outside)} is outside")
    try:
        listed = json.loads(content)["labels"]
        known = None if listed is None else dict(listed)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f'{where}: expected {{"labels": [[name, label], ...]}} ({reason(error)})') from error
    if known is None:
        return torch.zeros(len(names)).long(), []
    found = [known.get(name.removeprefix(folder)) for name in names]
    for name, label in zip(names, found, strict=True):
        if type(label) is not int or not 0 <= label < MOST_CLASSES:
            has = "no label" if label is None else f"the label {shown(label)}"
            raise UserError(f"{where}: {name} has {has}, expected {A_LABEL}")
    labels = torch.tensor(found)
    return labels, [str(c) for c in range(int(labels.max()) + 1)]


def by_folder(path: Path, names: list[str]) -> tuple[list[str], Tensor, list[str]]:
    """Return the names of the images in the order of their folders, their labels, and the folders' names.

    Files that are unpacked to a folder have the same order.
    """
    parts = [PurePosixPath(name).parts for name in names]
    while len({p[0] for p in parts}) == 1 and min(map(len, parts)) > 2:  # an outer folder
        parts = [p[1:] for p in parts]
    loose = [name for name, p in zip(names, parts, strict=True) if len(p) == 1]
    if len(loose) == len(names):
        return names, torch.zeros(len(names)).long(), []
    if loose:
        raise UserError(
            f"data.path {path}: {counted(len(loose), 'loose image')} (such as {loose[0]}) beside folders with images; "
            "expected class folders only, or images only"
        )
    classes = sorted({p[0] for p in parts})
    numbers = {name: number for number, name in enumerate(classes)}
    found = sorted((numbers[p[0]], name) for name, p in zip(names, parts, strict=True))
    return [name for _, name in found], torch.tensor([label for label, _ in found]), classes
