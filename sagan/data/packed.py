"""Packed data sets: one memory-mapped file of decoded images, for data larger than memory.

A folder with `images.npy`, uint8 (N, H, W, C); `labels.npy`, int64 (N,); and `meta.json`. Images are read at disk
speed. Processes share the same memory pages, which the system drops when it needs memory.
"""

import hashlib
import json
import mmap
import os
import shutil
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sagan.config import UserError
from sagan.config.errors import one_line
from sagan.config.types import shown
from sagan.data.dataset import ArrayDataset, Dataset, fingerprint
from sagan.data.decoding import MODES
from sagan.runtime.wording import counted

FILES = ("images.npy", "labels.npy", "meta.json")
FORMAT = 1


class PackedDataset(ArrayDataset):
    """The memory-mapped images of a packed folder, resized on reading if another size is configured."""

    def __init__(self, path: Path, arrays: np.ndarray, labels, meta: dict, size: tuple[int, int], channels: int):
        super().__init__(arrays, labels, meta["class_names"], size, channels, f"packed {path} ({meta['source']})")
        self.path = path
        self.images_sha256 = meta["images_sha256"]
        self.map()

    def map(self) -> None:
        """Map the images for random access; by default the system would read megabytes around each."""
        self.arrays = arrays = np.load(self.path / "images.npy", mmap_mode="r")
        if hasattr(mmap, "MADV_RANDOM") and arrays.size:
            arrays._mmap.madvise(mmap.MADV_RANDOM)

    def batch(self, indices: Tensor) -> Tensor:
        self.request(indices)
        return super().batch(indices)

    def request(self, indices: Tensor) -> None:
        """Have the system read these images concurrently; otherwise each would wait for the one before.

        `experiments/streaming` measures the difference on a cold file.
        """
        if not hasattr(os, "posix_fadvise"):  # not on macOS
            return
        start, length = self.arrays.offset, self.arrays[0].nbytes
        with open(self.path / "images.npy", "rb") as file:
            for i in indices.tolist():
                os.posix_fadvise(file.fileno(), start + i * length, length, os.POSIX_FADV_WILLNEED)

    def forget_cached(self) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        self.map()  # mapped pages would stay cached
        with open(self.path / "images.npy", "rb") as file:
            os.fsync(file.fileno())  # only what is on the disk can be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    @cached_property
    def content(self) -> tuple[str, Tensor]:
        """Return what `Dataset.content` does, without reading images if their size and channels are the packed ones."""
        if self.arrays.shape[1:] == (*self.size, self.channels):
            return self.images_sha256, torch.arange(len(self))
        return super().content

    def __getstate__(self) -> dict:
        # Pickling a memory map for a worker process would copy every image.
        return {k: v for k, v in self.__dict__.items() if k != "arrays"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.map()


def open_packed(path: Path, size: tuple[int, int], channels: int) -> PackedDataset:
    """Open what `pack` wrote. Raise UserError if files are missing or inconsistent."""
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise UserError(
            f"data.path {path}: {', '.join(missing)} missing; a packed data set is what `sagan pack` writes"
        )
    try:
        meta = json.loads((path / "meta.json").read_text())
        if not isinstance(meta, dict):
            raise ValueError(f"meta.json: expected a mapping, found {shown(meta)}")
        arrays = mapped(path / "images.npy")
        labels = torch.from_numpy(np.array(mapped(path / "labels.npy")))
        shape = (meta["count"], meta["height"], meta["width"], meta["channels"])
        version, names = meta["format"], meta["class_names"]
        texts = [isinstance(meta[key], str) for key in ("source", "images_sha256")]
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:  # TypeError: text as labels
        words = f"meta.json: {error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"data.path {path}: damaged packed data set ({shown(one_line(words))}); pack it again"
        ) from error
    checks = {
        "format": (version, FORMAT),
        "images": ((arrays.shape, str(arrays.dtype)), (shape, "uint8")),
        "text in meta.json": ([*texts, is_list_of_text(names)], [True, True, True]),
        "labels": ((tuple(labels.shape), str(labels.dtype)), (shape[:1], "torch.int64")),
    }
    if arrays.ndim == 4 and (arrays.shape[3] not in MODES or 0 in arrays.shape[1:3]):
        checks["images"] = (arrays.shape, "images of 1 or 3 channels")
    for what, (found, expected) in checks.items():
        if found != expected:
            raise UserError(
                f"data.path {path}: {what}: found {shown(found)}, expected {shown(expected)}; pack it again"
            )
    low, high = (int(x) for x in labels.aminmax()) if len(labels) else (0, 0)
    if not len(labels) or low < 0 or high >= max(len(names), 1):
        raise UserError(
            f"data.path {path}: {counted(len(labels), 'label')} from {low} to {high}, expected "
            f"0 to {max(len(names), 1) - 1}; pack it again"
        )
    return PackedDataset(path, arrays, labels, meta, size, channels)


def mapped(file: Path) -> np.ndarray:
    """Return the array in an .npy file, mapped: it takes no memory, whatever it claims to hold.

    Raise ValueError, naming the file, if it is damaged.
    """
    try:
        with np.errstate(over="ignore"):  # in a product of sizes, which the file then is too short for
            array = np.load(file, mmap_mode="r")
    except Exception as error:  # numpy raises nearly anything for a damaged header
        raise ValueError(f"{file.name}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file.name}: expected an array, found an archive of arrays")
    return array


def is_list_of_text(value: object) -> bool:
    """Return whether a value from a file is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def pack(dataset: Dataset, out: Path | str) -> int:
    """Write a data set to a packed folder `out`, chunk by chunk, and return the number of images written.

    The fingerprint stays the same. Images that `dataset` skips, because they cannot be read, are left out.

    `out` appears only when it is complete. Raise UserError if it is a folder with other content, if the disk is too
    small, or if writing fails.
    """
    out = Path(out).resolve()
    require_replaceable(out)
    replaces = out.exists()
    partial, old = (out.with_name(f".{out.name}.{word}-{os.getpid()}") for word in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
        free = shutil.disk_usage(partial).free
        if dataset.nbytes > free:
            raise UserError(
                f"{out}: {dataset.nbytes / 2**30:.1f} GiB to write, but the disk has {free / 2**30:.1f} free"
            )
        number = write_files(dataset, partial)
        if replaces:
            os.rename(out, old)
        os.rename(partial, out)
        return number
    except OSError as error:
        raise UserError(f"{out}: cannot write the packed data set: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not out.exists():
            os.rename(old, out)
        shutil.rmtree(old, ignore_errors=True)


def require_replaceable(out: Path) -> None:
    """Raise UserError unless `out` is new, empty or a packed data set, so that `pack` may replace it."""
    if out.resolve() == Path.cwd():
        raise UserError(f"{out}: is the working directory, which cannot be replaced; give the packed data set a name")
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    with suppress(OSError, ValueError, TypeError, RecursionError):  # TypeError: a number as meta.json
        if not names or (names <= set(FILES) and "images_sha256" in json.loads((out / "meta.json").read_text())):
            return
    raise UserError(f"{out}: exists and is not a packed data set; choose another name or remove it")


def write_files(dataset: Dataset, folder: Path) -> int:
    """Write the three files of a packed data set. Return the number of images."""
    images_sha256, labels = write_images(dataset, folder / "images.npy")
    np.save(folder / "labels.npy", labels.numpy())
    height, width = dataset.size
    meta = {
        "format": FORMAT,
        "count": len(labels),
        "height": height,
        "width": width,
        "channels": dataset.channels,
        "class_names": dataset.class_names,
        "source": dataset.source,
        "skipped": dataset.skipped,
        "images_sha256": images_sha256,
        "fingerprint": fingerprint(images_sha256, labels, dataset.class_names, dataset.size, dataset.channels),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    for name in FILES:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
    return len(labels)


def write_images(dataset: Dataset, path: Path) -> tuple[str, torch.Tensor]:
    """Append every readable image to an .npy file. Return the digest of the images, and their labels."""
    digest, kept = hashlib.sha256(), []
    with open(path, "wb") as file:
        write_header(file, len(dataset), dataset)
        start = file.tell()
        for images, indices in dataset.chunks("packing"):
            images = images.cpu().contiguous()
            digest.update(images.numpy().data)
            file.write(images.permute(0, 2, 3, 1).contiguous().numpy().data)
            kept.append(indices)
        indices = torch.cat(kept)
        if len(indices) == 0:
            raise UserError(f"{dataset.source}: none of {len(dataset)} images could be read")
        # The number of readable images is known only now. numpy leaves room for any count in the header.
        file.seek(0)
        write_header(file, len(indices), dataset)
        if file.tell() != start:
            raise AssertionError("the header of images.npy changed its length")
    return digest.hexdigest(), dataset.labels[indices]


def write_header(file, count: int, dataset: Dataset) -> None:
    """Write the .npy header of `count` images, uint8 (count, H, W, C), at the position of an open binary file."""
    shape = (count, *dataset.size, dataset.channels)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
