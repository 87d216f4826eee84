"""Images between their two forms: float in [-1, 1], as networks see them, and uint8, as files and extractors do."""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1], of any shape, to the nearest of the 256 levels; values beyond the range are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
