"""Images in a folder: one folder per class, or one flat folder without classes."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sagan.config import UserError
from sagan.data.dataset import Dataset
from sagan.data.decoding import EXTENSIONS, UnreadableImage, read_image
from sagan.runtime.wording import counted

LABELS = "dataset.json"  # of a zip archive: {"labels": [["00000/img00000000.png", 6], ...]}, or null for the list


class FolderDataset(Dataset):
    """Image files, decoded as needed.

    With on_error "skip", `batch` replaces an unreadable image by the next readable one of its class, so that indices,
    labels and batches stay the same; `readable` leaves it out.
    """

    def __init__(self, paths: list[Path], labels: Tensor, class_names, size, channels: int, source: str, on_error: str):
        super().__init__(labels, class_names, size, channels, source)
        self.paths = [str(p) for p in paths]
        self.groups = labels  # unchanged by `forget_labels`
        self.on_error = on_error

    def read(self, index: int) -> Tensor | None:
        """Return one image, uint8 (C, H, W), or None if it is unreadable and may be skipped; else raise UserError."""
        if index in self.failures:
            return None
        try:
            return torch.from_numpy(self.decoded(index))
        except UnreadableImage as error:
            if self.on_error == "raise":
                raise UserError(f"cannot read the image {error}; data.on_error=skip leaves such files out") from error
            self.note_failures({index: str(error)})
            return None

    def decoded(self, index: int) -> np.ndarray:
        """Return one image, uint8 (C, H, W). Raise UnreadableImage."""
        return read_image(self.paths[index], self.size, self.channels)

    def usable(self) -> Tensor:
        return super().usable() if self.on_error == "raise" else self.content[1]

    def readable(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = {i: image for i in indices.tolist() if (image := self.read(i)) is not None}
        if not images:
            return torch.empty(0, self.channels, *self.size, dtype=torch.uint8), indices[:0]
        return torch.stack(list(images.values())), torch.tensor(list(images))

    def batch(self, indices: Tensor) -> Tensor:
        images = [self.read_or_next(i) for i in indices.tolist()]
        return torch.stack(images) if images else torch.empty(0, self.channels, *self.size, dtype=torch.uint8)

    def read_or_next(self, index: int) -> Tensor:
        """Return the image, or the next readable one of its class, wrapping around at the end."""
        if (image := self.read(index)) is not None:
            return image
        peers = (self.groups == self.groups[index]).nonzero().flatten()
        after = peers > index
        for other in torch.cat([peers[after], peers[~after]]).tolist():
            if (image := self.read(other)) is not None:
                return image
        raise UserError(f"{self.source}: no image of the class of {self.paths[index]} can be read")


def open_folder(path: Path, size: tuple[int, int], channels: int, on_error: str) -> FolderDataset:
    """List the images under `path` without decoding any.

    Class folders, sorted by name, define the labels; their images may be in subfolders. Raise UserError if the folder
    is missing, has no images, or mixes loose images with class folders.
    """
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        hint = "; data.source=zip reads archives" if path.suffix.lower() == ".zip" and path.is_file() else ""
        raise UserError(f"data.path {path}: {what}; expected a folder of class folders or of images{hint}")
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = sorted(p for p in path.iterdir() if is_image(p.name) and p.is_file())
    for folder in classes:
        if not is_utf8(folder.name):
            raise UserError(f"data.path {path}: the name of the class folder {folder.name!r} is not UTF-8; rename it")
    filled, repeated = images_by_class(path, classes)
    if loose and any(filled.values()):
        inside = next(p for p, files in filled.items() if files)
        raise UserError(
            f"data.path {path}: {counted(len(loose), 'loose image')} (such as {loose[0].name}) beside "
            f"{counted(len(classes), 'folder')} with images (such as {inside.name}/); expected class folders only, or "
            "images only"
        )
    if not loose and not any(filled.values()):
        raise UserError(f"data.path {path}: no images in it or below it; looked for {' '.join(sorted(EXTENSIONS))}")
    source = f"folder {path}"
    if loose:
        return FolderDataset(loose, torch.zeros(len(loose)).long(), [], size, channels, source, on_error)
    labels = torch.cat([torch.full((len(files),), label) for label, files in enumerate(filled.values())]).long()
    paths = [file for files in filled.values() for file in files]
    dataset = FolderDataset(paths, labels, [p.name for p in classes], size, channels, source, on_error)
    dataset.warnings = [*wrong_level_warnings(path, filled), *repeated]
    if (path / LABELS).is_file():
        unread = f"{path / LABELS} is not read: folders are the classes, but in a zip archive it would give the labels"
        dataset.warnings.append(unread)
    return dataset


def unreadable(error: OSError) -> None:
    """Raise UserError for a folder that cannot be listed."""
    raise UserError(f"data.path: {error.filename} cannot be listed: {error.strerror}") from error


def images_by_class(path: Path, classes: list[Path]) -> tuple[dict[Path, list[Path]], list[str]]:
    """Return the image files in and below each class folder, and a warning for each folder that is left out.

    Links are followed, but no folder is read twice: a link to its own folder would never end, and a link to the parent
    folder would put the images of all classes into this class.
    """
    taken = {identity(path): path, **{identity(folder): folder for folder in classes}}
    warnings = [
        f"{folder} and {taken[identity(folder)]} are the same folder, so its images have two classes"
        for folder in classes
        if taken[identity(folder)] != folder
    ]
    filled: dict[Path, list[Path]] = {}
    for folder in classes:
        found = []
        for top, below, names in os.walk(folder, followlinks=True, onerror=unreadable):
            found += [Path(top, name) for name in names if is_image(name)]
            below[:] = [name for name in below if not name.startswith(".")]  # .ipynb_checkpoints holds copies
            for name in sorted(below):
                inside = Path(top, name)
                if (known := taken.setdefault(identity(inside), inside)) != inside:
                    below.remove(name)
                    warnings.append(f"{inside} is left out: it is the same folder as {known}, which is read already")
            below.sort()
        filled[folder] = sorted(found, key=str)
    return filled, warnings


def images_under(folder: Path) -> list[Path]:
    """Return the image files in and below a folder, sorted by relative path; an empty list if it does not exist."""
    if not folder.is_dir():
        return []
    return images_by_class(folder, [folder])[0][folder]


def identity(folder: Path) -> tuple[int, int]:
    """Return what identifies a folder, whatever path leads to it."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def is_utf8(name: str) -> bool:
    """Return whether a file name is UTF-8, as records and TensorBoard need it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_image(name: str) -> bool:
    """Return whether a file is an image, judged by its name alone."""
    # By name alone, because opening a million files takes long on a network drive. ._x.jpg is metadata of macOS.
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


def wrong_level_warnings(path: Path, classes: dict[Path, list[Path]]) -> list[str]:
    """Return a warning if class folders look like folders of class folders, so that data.path is one level too high."""
    deep = {}
    for folder, files in classes.items():
        below = {p.relative_to(folder).parts[0] for p in files}
        if len(below) > 1 and not any(p.parent == folder for p in files):
            deep[folder] = sorted(below)
    if not deep:
        return []
    folder, below = next(iter(deep.items()))
    return [
        f"{len(deep)} of {len(classes)} class folders in {path} hold no images themselves, only subfolders of images "
        f"({folder.name}/ has {len(below)}: {', '.join(below[:3])}{', ...' if len(below) > 3 else ''}), and all of "
        f"them get the label {folder.name!r}: is data.path one level too high? Then use {folder}"
    ]
