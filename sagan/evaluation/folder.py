"""A folder of image files as one side of a comparison: its pixels as they are, in the order of their paths."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from sagan.config import UserError
from sagan.data.decoding import EXTENSIONS, UnreadableImage, read_image
from sagan.data.folder import images_under
from sagan.data.rules import Rule


class FolderImages:
    """All images in and below a folder, read as training reads them, RGB, not resized: a metric compares what is there.

    `option` is how the user gave the folder, for errors. All images must have one size.
    """

    class_names: list[str] = []
    rule: Rule | None = None

    def __init__(self, folder: str | Path, option: str):
        self.folder, self.option = Path(folder), option
        if not self.folder.is_dir():
            raise UserError(f"{option} {folder}: there is no such folder")
        self.paths = images_under(self.folder)
        if len(self.paths) < 2:
            raise UserError(
                f"{option} {folder}: found {len(self.paths)} images ({' '.join(sorted(EXTENSIONS))}), need 2"
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
            return torch.from_numpy(read_image(path, None, 3))
        except UnreadableImage as error:
            raise UserError(f"{self.option} {self.folder}: cannot read {error}") from error

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
