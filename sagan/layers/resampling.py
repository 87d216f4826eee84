"""Convolution with resampling, as one strided convolution with a fused kernel.

A 3x3 convolution after nearest up-sampling is a transposed convolution with a 4x4 kernel, and one before 2x2 average
pooling is a strided convolution with a 4x4 kernel: exact algebra, with 4/9 of the multiply-adds. A 1x1 convolution
commutes with both, so it runs at the lower resolution, with a quarter of them. The `plain_` functions are the
definitions.
"""

import torch.nn.functional as F
from torch import Tensor


def plain_upsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Nearest up-sampling by 2, then a convolution that keeps the size: (N, I, H, W) -> (N, O, 2H, 2W)."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.conv2d(x, weight.to(x.dtype), _cast(bias, x), padding=weight.shape[-1] // 2)


def plain_conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution that keeps the size, then 2x2 average pooling: (N, I, H, W) -> (N, O, H/2, W/2)."""
    h = F.conv2d(x, weight.to(x.dtype), _cast(bias, x), padding=weight.shape[-1] // 2)
    return F.avg_pool2d(h, 2)


def upsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`plain_upsample_conv` for a float32 weight (O, I, 3, 3) or (O, I, 1, 1), without the work on repeated pixels."""
    if weight.shape[-1] == 1:
        h = F.conv2d(x, weight.to(x.dtype), _cast(bias, x))
        return F.interpolate(h, scale_factor=2.0, mode="nearest")
    # conv_transpose2d scatters, so it wants the kernel flipped and its channel axes swapped.
    kernel = _sum_of_shifts(weight.flip(2, 3).transpose(0, 1))  # (I, O, 4, 4)
    return F.conv_transpose2d(x, kernel.to(x.dtype), _cast(bias, x), stride=2, padding=1)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`plain_conv_pool` for a float32 weight (O, I, 3, 3) or (O, I, 1, 1), without the work that pooling averages."""
    if weight.shape[-1] == 1:
        return F.conv2d(F.avg_pool2d(x, 2), weight.to(x.dtype), _cast(bias, x))
    kernel = _sum_of_shifts(weight) / 4  # (O, I, 4, 4)
    return F.conv2d(x, kernel.to(x.dtype), _cast(bias, x), stride=2, padding=1)


def _sum_of_shifts(weight: Tensor) -> Tensor:
    """A 3x3 kernel laid at the four corners of a 4x4 one, and added up. In float32: rounded ones would drift."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


def _cast(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
