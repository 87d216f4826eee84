"""A folder of image files as one side of a comparison, in the order of their paths."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from sagan.config import UserError
from sagan.data.decoding import EXTENSIONS, UnreadableImage, image_size, read_image
from sagan.data.folder import images_under
from sagan.data.rules import Rule
from sagan.runtime.wording import counted


class FolderImages:
    """All images in and below a folder, in RGB, read as training reads them.

    With `size` (H, W), each is cropped and resized to it, as training does. Without it, none is resized, and all must
    have the same size, which their headers are read to check. `option` is the command-line option that named the
    folder, for errors. Raise UserError if the folder is missing, has fewer than 2 images, or has images of several
    sizes.
    """

    class_names: list[str] = []
    rule: Rule | None = None

    def __init__(self, folder: str | Path, option: str, size: tuple[int, int] | None = None):
        self.folder, self.option = Path(folder), option
        if not self.folder.is_dir():
            raise UserError(f"{option} {folder}: there is no such folder")
        self.paths = images_under(self.folder)
        if len(self.paths) < 2:
            raise UserError(
                f"{option} {folder}: found {counted(len(self.paths), 'image')} ({' '.join(sorted(EXTENSIONS))}), need 2"
            )
        self.resized_to = size
        self.size = size or self._common_size()
        self.labels = torch.zeros(len(self.paths), dtype=torch.long)
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.paths)

    def usable(self) -> Tensor:
        """Return the indices of all images: one that cannot be read is an error."""
        return torch.arange(len(self))

    def batch(self, indices: Tensor) -> Tensor:
        """Return uint8 images (n, 3, H, W). Raise UserError for a file that cannot be read."""
        images = [self._read(self.paths[i]) for i in indices.tolist()]
        for i, image in zip(indices.tolist(), images, strict=True):
            self._require_size(self.paths[i], (image.shape[1], image.shape[2]), self.size)
        return torch.stack(images)

    def _common_size(self) -> tuple[int, int]:
        """Return the height and width of all images, from their headers."""
        try:
            first = image_size(self.paths[0])
            for path in self.paths[1:]:
                self._require_size(path, image_size(path), first)
        except UnreadableImage as error:
            raise UserError(f"{self.option} {self.folder}: cannot read {error}") from error
        return first

    def _require_size(self, path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
        if size != expected:
            raise UserError(
                f"{self.option} {self.folder}: {path} is {size[0]}x{size[1]}, but {self.paths[0]} is "
                f"{expected[0]}x{expected[1]}; --resolution N or [H,W] brings all images to one size"
            )

    def _read(self, path: Path) -> Tensor:
        try:
            return torch.from_numpy(read_image(path, self.resized_to, 3))
        except UnreadableImage as error:
            raise UserError(f"{self.option} {self.folder}: cannot read {error}") from error

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
