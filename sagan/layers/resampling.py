"""Convolution and resampling, fused into one strided convolution.

A 3x3 convolution after nearest up-sampling is a transposed convolution with a 4x4 kernel. A 3x3 convolution before 2x2
average pooling is a strided convolution with a 4x4 kernel. Both identities are exact and take 4/9 of the multiply-adds.
A 1x1 convolution commutes with either resampling, so it runs at the lower resolution, with a quarter of the
multiply-adds. The `plain_` functions are the definitions.
"""

import torch.nn.functional as F
from torch import Tensor


def plain_upsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply nearest up-sampling by 2, then a size-preserving convolution: (N, I, H, W) -> (N, O, 2H, 2W)."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.conv2d(x, weight.to(x.dtype), _cast(bias, x), padding=weight.shape[-1] // 2)


def plain_conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a size-preserving convolution, then 2x2 average pooling: (N, I, H, W) -> (N, O, H/2, W/2)."""
    h = F.conv2d(x, weight.to(x.dtype), _cast(bias, x), padding=weight.shape[-1] // 2)
    return F.avg_pool2d(h, 2)


def upsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `plain_upsample_conv` faster, for a float32 weight (O, I, 3, 3) or (O, I, 1, 1)."""
    if weight.shape[-1] == 1:
        h = F.conv2d(x, weight.to(x.dtype), _cast(bias, x))
        return F.interpolate(h, scale_factor=2.0, mode="nearest")
    # conv_transpose2d scatters, so it needs the kernel flipped and its channel axes swapped.
    kernel = _sum_of_shifts(weight.flip(2, 3).transpose(0, 1))  # (I, O, 4, 4)
    return F.conv_transpose2d(x, kernel.to(x.dtype), _cast(bias, x), stride=2, padding=1)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `plain_conv_pool` faster, for a float32 weight (O, I, 3, 3) or (O, I, 1, 1)."""
    if weight.shape[-1] == 1:
        return F.conv2d(F.avg_pool2d(x, 2), weight.to(x.dtype), _cast(bias, x))
    kernel = _sum_of_shifts(weight) / 4  # (O, I, 4, 4)
    return F.conv2d(x, kernel.to(x.dtype), _cast(bias, x), stride=2, padding=1)


def _sum_of_shifts(weight: Tensor) -> Tensor:
    """Add up a 3x3 kernel at the four corners of a 4x4 one. In float32: sums of rounded weights would drift."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


def _cast(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
