"""Images in both formats: float in [-1, 1] for networks, uint8 for files and feature extractors."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from sagan.runtime.files import write_atomically

SIDE = 640  # small images are enlarged until their longer side has about this many pixels


def to_uint8(images: Tensor) -> Tensor:
    """Round float images in [-1, 1], of any shape, to uint8; values outside the range are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Arrange uint8 images (N, C, H, W) in rows of `columns`, with white lines between: one RGB image (3, H', W')."""
    if len(images) == 1:  # make_grid would omit the frame
        return torch.nn.functional.pad(images[0].cpu().expand(3, -1, -1), (2, 2, 2, 2), value=255)
    return make_grid(images.cpu(), nrow=columns, padding=2, pad_value=255)


def save_png(image: Tensor, path: Path) -> None:
    """Write a uint8 image (C, H, W) as PNG, atomically; enlarge small images by repeating their pixels.

    Raise UserError, naming the file, if it cannot be written.
    """
    scale = max(1, round(SIDE / max(image.shape[-2:])))
    image = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    write_atomically(path, lambda file: to_pil_image(image).save(file, format="PNG"))
