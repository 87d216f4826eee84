"""Files of single images, and the names of classes in files and pictures."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sagan.config import ConfigError, UserError
from sagan.data.folder import images_under
from sagan.models.generator import Generator
from sagan.models.origin import origin_of
from sagan.runtime.captions import drawable
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import to_pil
from sagan.runtime.wording import counted


def class_titles(generator: Generator) -> list[str]:
    """Return the name of each class in letters that a picture can show, or "class 3" if that is impossible."""
    return [drawable(name) or f"class {i}" for i, name in enumerate(class_names(generator))]


def class_names(generator: Generator) -> list[str]:
    """Return the name of each class, or its number if the generator's file has no names.

    Numbers have leading zeros, so that they sort like the classes.
    """
    names, digits = origin_of(generator).class_names, len(str(generator.num_classes - 1))
    return list(names) if names else [f"{i:0{digits}d}" for i in range(generator.num_classes)]


ROUNDING = 2  # of 255
RESERVED = r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udc7f\udd00-\udfff]'
"""Characters that a path or a file system reserves, and halves of surrogate pairs that stand for no byte."""
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows reserves."""


def folder_names(names: Sequence[str]) -> list[str]:
    """Return a folder name for each class. Every file system accepts them, and all differ even if case is ignored."""
    taken: set[str] = set()
    return [_untaken(safe_name(name), taken) for name in names]


def safe_name(name: str) -> str:
    """Return a text as a file name: at most 80 characters, without those that a path or a file system reserves."""
    name = re.sub(RESERVED, "_", unicodedata.normalize("NFC", name))
    name = re.sub(r"^\.", "_", name.strip())[:80].rstrip(". ")  # a folder data set leaves out hidden files
    while len(name.encode(errors="surrogateescape")) > 200:
        name = name[:-1]
    return f"_{name}" if re.fullmatch(DEVICES, name) else name or "_"


def _untaken(name: str, taken: set[str]) -> str:
    """Return the name, with the first number appended that makes it unique if need be, and mark it as taken."""
    candidates = (name if n == 1 else f"{name}-{n}" for n in count(1))
    free = next(c for c in candidates if c.casefold() not in taken)
    taken.add(free.casefold())
    return free


def file_names(num: int, classes: Sequence[int], folders: Sequence[str]) -> list[str]:
    """Return a path for each image, made of the folder of its class and its index, such as cat/00012.png."""
    return [f"{folders[classes[i % len(classes)]]}/{i:05d}.png" if classes else f"{i:05d}.png" for i in range(num)]


def refuse_strangers(folder: Path, names: list[str]) -> None:
    """Raise ConfigError if the folder or its subfolders hold other images: they would mix with the new ones."""
    strangers = {p.relative_to(folder).as_posix() for p in images_under(folder)} - set(names)
    if strangers:
        raise ConfigError(f"--out {folder}: holds {counted(len(strangers), 'other image')}, such as {min(strangers)}")


def refuse_replacement(images: Tensor, names: list[str], out: Path) -> None:
    """Raise ConfigError if one of the files is there already with another picture."""
    for image, name in zip(images, names, strict=False):
        if (out / name).exists() and not shows(out / name, image):
            raise ConfigError(f"--out {out}: holds another image as {name}; choose another folder")


def shows(file: Path, image: Tensor) -> bool:
    """Return whether a file shows an image. Batches of another size may round it differently."""
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            there, new = np.asarray(picture, dtype=int), np.asarray(to_pil(image), dtype=int)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return there.shape == new.shape and bool((abs(there - new) <= ROUNDING).all())


def save_folder(images: Tensor, names: list[str], out: Path) -> None:
    """Write a PNG file for each image. Raise ConfigError if one would replace another picture, UserError if that is not
    possible."""
    refuse_replacement(images, names, out)
    try:
        for folder in {(out / name).parent for name in names}:
            folder.mkdir(parents=True, exist_ok=True)
        for image, name in zip(images, names, strict=True):
            unfinished = (out / name).with_name(f".{Path(name).name}.tmp")  # never part of an image under its name
            to_pil(image).save(unfinished, format="PNG")
            unfinished.replace(out / name)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error}") from error


def save_npz(images: Tensor, y: Tensor | None, out: Path) -> None:
    """Write the arrays `images`, uint8 (N, H, W, C), and, if there are labels, `labels`, int64 (N,)."""
    arrays: dict[str, Any] = {"images": images.permute(0, 2, 3, 1).numpy()}
    if y is not None:
        arrays["labels"] = y.numpy()
    write_atomically(out, lambda file: np.savez(file, **arrays))
