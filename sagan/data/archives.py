"""Published data sets, through torchvision, which downloads them on first use."""

from pathlib import Path

import numpy as np
import torch

from sagan.config import ConfigError, UserError
from sagan.data.dataset import ArrayDataset

ONLY_A_FILE = (
    "data.source {source}: not found in {path}. Both are named by the run's file alone, so nothing is downloaded; to "
    "allow it, give --data.source {source} --data.path {path}"
)

# source: (class in torchvision.datasets, site, files, folder for them under data.path)
ARCHIVES: dict[str, tuple[str, str, str, str]] = {
    "cifar10": ("CIFAR10", "https://www.cs.toronto.edu/~kriz/", "cifar-10-python.tar.gz", "."),
    "cifar100": ("CIFAR100", "https://www.cs.toronto.edu/~kriz/", "cifar-100-python.tar.gz", "."),
    "fashion-mnist": (
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
        "FashionMNIST/raw",
    ),
    "stl10": ("STL10", "http://ai.stanford.edu/~acoates/stl10/", "stl10_binary.tar.gz", "."),
}


def open_archive(
    source: str, path: Path, size: tuple[int, int], channels: int, split: str, download: bool
) -> ArrayDataset:
    """Open a torchvision data set, resized to `size` as it is read. Raise UserError if it is not available."""
    if split not in ("train", "test"):
        raise ConfigError(f"split {split!r}: {source} has train and test")
    found = fetch(source, path, split, download)
    arrays = np.asarray(found.data)
    if source == "stl10":
        arrays = arrays.transpose(0, 2, 3, 1)  # from (N, C, H, W)
    if arrays.ndim == 3:
        arrays = arrays[..., None]
    labels = torch.as_tensor(np.asarray(found.labels if source == "stl10" else found.targets), dtype=torch.long)
    return ArrayDataset(arrays, labels, found.classes, size, channels, f"{source} ({split}) in {path}")


def fetch(source: str, path: Path, split: str, download: bool):
    """Return the torchvision object, from disk or, if allowed, downloaded.

    Raise a UserError that says what is missing and where to put it.
    """
    from torchvision import datasets

    name, site, files, folder = ARCHIVES[source]
    chosen = {"split": split} if source == "stl10" else {"train": split == "train"}
    kind = getattr(datasets, name)
    try:
        try:
            return kind(path, download=False, **chosen)
        except RuntimeError as error:  # missing or incomplete
            if download:
                return kind(path, download=True, **chosen)
            raise UserError(ONLY_A_FILE.format(source=source, path=path)) from error
    except UserError:
        raise
    except Exception as error:  # network, disk, checksum: each raises its own type
        raise UserError(
            f"data.source {source}: not found in {path}, and the download failed ({type(error).__name__}: {error}). "
            f"It comes from {site}{files}; with that in {path / folder}/ (no need to unpack) the same command works "
            "offline. data.path says where to look; data.source=shapes needs no download."
        ) from error
