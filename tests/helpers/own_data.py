"""The data set of one's own that the page about data shows."""

from pathlib import Path

import numpy as np
import torch


class Arrays(torch.utils.data.Dataset):
    """Images from PATH/SPLIT/images.npy, uint8 (N, C, H, W), with labels from labels.npy, int64 (N,)."""

    classes = ["healthy", "ill"]  # optional: the names of the classes

    def __init__(self, path: str | None, size: tuple[int, int], channels: int, split: str):
        folder = Path(path or ".") / split
        self.images, self.labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[index].copy()), int(self.labels[index])
