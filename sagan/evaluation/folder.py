"""A folder of image files as one side of a comparison: its pixels as they are, in the order of their paths."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sagan.config import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class FolderImages:
    """All images in and below a folder, RGB, not resized: a metric compares what is there.

    `option` is how the user gave the folder, for errors. All images must have one size.
    """

    class_names: list[str] = []

    def __init__(self, folder: str | Path, option: str):
        self.folder, self.option = Path(folder), option
        if not self.folder.is_dir():
            raise UserError(f"{option} {folder}: there is no such folder")
        self.paths = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if len(self.paths) < 2:
            raise UserError(
                f"{option} {folder}: found {len(self.paths)} images ({', '.join(sorted(SUFFIXES))}), need 2"
            )
        self.size = tuple(self._read(self.paths[0]).shape[1:])
        self.labels = torch.zeros(len(self.paths), dtype=torch.long)
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor) -> Tensor:
        """uint8 (n, 3, H, W). UserError for a file that cannot be read or has another size than the first."""
        images = [self._read(self.paths[i]) for i in indices.tolist()]
        for i, image in zip(indices.tolist(), images, strict=True):
            if tuple(image.shape[1:]) != self.size:
                raise UserError(
                    f"{self.option} {self.folder}: {self.paths[i]} is {image.shape[1]}x{image.shape[2]}, but "
                    f"{self.paths[0]} is {self.size[0]}x{self.size[1]}; bring all to one size first"
                )
        return torch.stack(images)

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                if image.mode.startswith("I"):  # 16 bit: Pillow would clip at 255, not scale
                    raise UserError(f"{self.option} {self.folder}: {path} has 16 bits per channel, expected 8")
                pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UserError(f"{self.option} {self.folder}: {path} cannot be read: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
