"""Images in both formats: float in [-1, 1] for networks, uint8 for files and feature extractors.

torchvision has some of this too, but it imports torch's compiler, which takes as long as torch itself.
"""

import io
import math
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sagan.config import UserError
from sagan.runtime.captions import Captions, with_captions
from sagan.runtime.files import write_atomically

JPEG = ("JPEG", {"quality": 95, "subsampling": 0})
FORMATS = {".png": ("PNG", {}), ".jpg": JPEG, ".jpeg": JPEG, ".webp": ("WEBP", {"lossless": True})}
LINE = 2  # width of the lines of a grid, in pixels
SIDE = 640  # small images are enlarged until their longer side has about this many pixels


def to_uint8(images: Tensor) -> Tensor:
    """Round float images in [-1, 1], of any shape, to uint8; values outside the range are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Arrange uint8 images (N, C, H, W) in rows of `columns`, with white lines between: one RGB image (3, H', W').

    Raise ValueError for images of another dtype, or if there is no image or no column.
    """
    if images.dtype != torch.uint8 or len(images) < 1 or columns < 1:
        found = f"{len(images)} images of {str(images.dtype).removeprefix('torch.')} in {columns} columns"
        raise ValueError(f"{found}: expected at least one uint8 image and one column")
    n, _, height, width = images.shape
    columns = min(columns, n)
    size = (LINE + math.ceil(n / columns) * (height + LINE), LINE + columns * (width + LINE))
    grid = torch.full((3, *size), 255, dtype=torch.uint8)
    for i, image in enumerate(images.cpu()):
        y, x = LINE + i // columns * (height + LINE), LINE + i % columns * (width + LINE)
        grid[:, y : y + height, x : x + width] = image
    return grid


def to_pil(image: Tensor) -> Image.Image:
    """Return a uint8 image (3, H, W) or (1, H, W) as an RGB or a greyscale picture."""
    pixels = image.cpu().movedim(0, -1).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if len(image) == 1 else pixels))


def from_pil(image: Image.Image) -> Tensor:
    """Return an RGB picture as a uint8 image (3, H, W)."""
    return torch.from_numpy(np.array(image)).movedim(-1, 0).contiguous()


def save_picture(image: Tensor, path: Path, captions: Captions | None = None) -> None:
    """Write a uint8 image (C, H, W) atomically, in the format of the file's suffix, one of FORMATS.

    Small images are enlarged by repeating their pixels. With captions, the image is RGB. Raise UserError, naming the
    file, if it cannot be written.
    """
    content = encoded(image, path.suffix, captions, path)
    write_atomically(path, lambda file: file.write(content))


def save_new_picture(image: Tensor, path: Path, captions: Captions | None = None) -> Path:
    """Write a picture like `save_picture`, but never overwrite a different one. Return the file's path.

    That is `path`, or `path` with the first suffix -v2, -v3, ... that is free or already holds the same picture.
    """
    return write_new(path, encoded(image, path.suffix, captions, path))


def write_new(path: Path, content: bytes) -> Path:
    """Write a file under the first name that `free_path` finds, and return its path."""
    free = free_path(path, content)
    write_atomically(free, lambda file: file.write(content))
    return free


def free_path(path: Path, content: bytes) -> Path:
    """Return `path`, or `path` with the first suffix -v2, -v3, ... that is free or already holds the same content."""
    candidates = (path if n == 1 else path.with_stem(f"{path.stem}-v{n}") for n in count(1))
    return next(p for p in candidates if not p.exists() or (p.is_file() and p.read_bytes() == content))


def encoded(image: Tensor, suffix: str, captions: Captions | None, path: Path) -> bytes:
    """Return the content of a picture's file. Raise UserError, naming `path`, if the format cannot hold it."""
    scale = max(1, round(SIDE / max(image.shape[-2:])))
    image = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    if captions is not None:
        image = with_captions(image, captions, scale)
    name, options = FORMATS[suffix.lower()]
    file = io.BytesIO()
    try:
        to_pil(image).save(file, format=name, **options)
    except (OSError, ValueError) as error:  # JPEG and WebP limit the size
        raise UserError(f"{path}: cannot be written: {error}") from error
    return file.getvalue()
