"""Differentiable augmentation (Zhao et al. 2020).

Real and fake images are transformed by the same policies, each image with its own random draw. Gradients flow back to G
through the transformations.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def diffaugment(images: Tensor, policies: Sequence[str], uniform: Tensor) -> Tensor:
    """Return images (N, C, H, W) after the named policies, in order; `uniform` (N, 7) holds draws from [0, 1)."""
    for name in policies:
        images = POLICIES[name](images, uniform)
    return images


def color(images: Tensor, uniform: Tensor) -> Tensor:
    """Add -0.5 to 0.5 to the brightness; multiply the saturation by 0 to 2 and the contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = uniform[:, :3].reshape(-1, 3, 1, 1, 1).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor, uniform: Tensor, ratio: float = 0.125) -> Tensor:
    """Shift each image by whole pixels, up to an eighth of each side. Pixels from outside the image are 0."""
    n, _, height, width = images.shape
    dy, dx = (_whole(uniform[:, 3 + axis], round(side * ratio)) for axis, side in enumerate((height, width)))
    rows = torch.arange(height, device=images.device) + dy[:, None]  # (N, H): the source of each output row
    columns = torch.arange(width, device=images.device) + dx[:, None]
    padded = F.pad(images, (1, 1, 1, 1))
    rows, columns = (rows + 1).clamp(0, height + 1), (columns + 1).clamp(0, width + 1)
    batch = torch.arange(n, device=images.device)
    shifted = padded.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def cutout(images: Tensor, uniform: Tensor, ratio: float = 0.5) -> Tensor:
    """Set a rectangle half as high and half as wide as the image to 0, centred anywhere in the image."""
    height, width = images.shape[2:]
    inside = []
    for axis, side in enumerate((height, width)):
        extent = round(side * ratio)
        start = (uniform[:, 5 + axis] * (side + 1 - extent % 2)).floor() - extent // 2
        pixels = torch.arange(side, device=images.device)
        inside.append((pixels >= start[:, None]) & (pixels < start[:, None] + extent))  # (N, side)
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0.0)


POLICIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def _whole(uniform: Tensor, limit: int) -> Tensor:
    """Return integers from -limit to limit, all equally likely."""
    return (uniform * (2 * limit + 1)).floor().long() - limit
