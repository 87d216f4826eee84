"""Differentiable augmentation (Zhao et al. 2020): the same random changes for real and fake images, with gradients."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def diffaugment(images: Tensor, policies: list[str], uniform: Tensor) -> Tensor:
    """Augments images (N, C, H, W) by the policies named, in order, with `uniform` (N, 7) draws from [0, 1)."""
    for name in policies:
        images = POLICIES[name](images, uniform)
    return images


def color(images: Tensor, uniform: Tensor) -> Tensor:
    """Brightness in [-0.5, 0.5], saturation in [0, 2], contrast in [0.5, 1.5], one draw an image."""
    brightness, saturation, contrast = uniform[:, :3].reshape(-1, 3, 1, 1, 1).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor, uniform: Tensor, ratio: float = 0.125) -> Tensor:
    """Shifts by up to an eighth of each side, whole pixels; what comes in from outside is 0."""
    n, _, height, width = images.shape
    dy, dx = (_whole(uniform[:, 3 + axis], round(side * ratio)) for axis, side in enumerate((height, width)))
    rows = torch.arange(height, device=images.device) + dy[:, None]  # (N, H): where each output row comes from
    columns = torch.arange(width, device=images.device) + dx[:, None]
    padded = F.pad(images, (1, 1, 1, 1))
    rows, columns = (rows + 1).clamp(0, height + 1), (columns + 1).clamp(0, width + 1)
    batch = torch.arange(n, device=images.device)
    shifted = padded.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def cutout(images: Tensor, uniform: Tensor, ratio: float = 0.5) -> Tensor:
    """Sets a rectangle with half of each side, its centre anywhere in the image, to 0."""
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
    """Whole numbers in -limit..limit, equally likely."""
    return (uniform * (2 * limit + 1)).floor().long() - limit
