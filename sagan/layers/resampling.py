"""Convolution and resampling, fused into one strided convolution.

A 3x3 convolution after nearest up-sampling is a transposed convolution with a 4x4 kernel. A 3x3 convolution before 2x2
average pooling is a strided convolution with a 4x4 kernel. Both identities are exact and take 4/9 of the multiply-adds.
A 1x1 convolution commutes with either resampling, so it runs at the lower resolution, with a quarter of the
multiply-adds. The `plain_` functions are the definitions.

The 4x4 kernels are built from float32 weights, before these are rounded: sums of rounded weights would drift.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_AXIS = ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0))
SHIFTS = tuple(tuple(a * b for a in rows for b in columns) for rows in _AXIS for columns in _AXIS)
"""The matrix (16, 9) that adds up a 3x3 kernel at the four corners of a 4x4 one."""


def plain_upsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply nearest up-sampling by 2, then a size-preserving convolution: (N, I, H, W) -> (N, O, 2H, 2W)."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def plain_conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a size-preserving convolution, then 2x2 average pooling: (N, I, H, W) -> (N, O, H/2, W/2)."""
    return F.avg_pool2d(F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2), 2)


def upsample_conv(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `plain_upsample_conv` faster, with a 1x1 weight or the `upsample_kernel` of a 3x3 one."""
    if kernel.shape[-1] == 1:
        return F.interpolate(F.conv2d(x, kernel, bias), scale_factor=2.0, mode="nearest")
    h = F.conv_transpose2d(x, kernel, stride=2, padding=1)
    # oneDNN would take longer for the bias's gradient than for the kernel's. The sum over h costs next to nothing.
    return h if bias is None else h.add_(bias[:, None, None])


def conv_pool(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `plain_conv_pool` faster, with a 1x1 weight or the `pool_kernel` of a 3x3 one."""
    if kernel.shape[-1] == 1:
        return F.conv2d(F.avg_pool2d(x, 2), kernel, bias)
    return F.conv2d(x, kernel, bias, stride=2, padding=1)


def upsample_kernel(weight: Tensor, shifts: Tensor) -> Tensor:
    """Return the kernel of `upsample_conv`: (O, I, 3, 3) -> (I, O, 4, 4), in channels_last."""
    # conv_transpose2d scatters, so it needs the kernel flipped and its channel axes swapped.
    pixels = weight.permute(1, 2, 3, 0).flatten(1, 2).contiguous()  # (I, 9, O); a product of a view would be slower
    return _unflatten(torch.matmul(shifts.flip(1), pixels))


def pool_kernel(weight: Tensor, shifts: Tensor) -> Tensor:
    """Return the kernel of `conv_pool`: (O, I, 3, 3) -> (O, I, 4, 4), in channels_last."""
    return _unflatten(torch.matmul(shifts / 4, weight.permute(0, 2, 3, 1).flatten(1, 2)))


def _unflatten(pixels: Tensor) -> Tensor:
    """Return pixels as 4x4 kernels: (A, 16, B) -> (A, B, 4, 4), in channels_last."""
    return pixels.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
