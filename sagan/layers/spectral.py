"""Layers with spectral normalization.

Spectral normalization (Miyato et al. 2018) divides a weight by an estimate of its largest singular value. Only an
explicit `power_iteration(network)` refines the estimate; reading a weight changes nothing. So the training step decides
how often the singular vectors are updated (once per discriminator step, as in the authors' code), and sampling,
evaluation and viewing never update them.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.resampling import conv_pool, plain_conv_pool, plain_upsample_conv, upsample_conv

EPS = 1e-12


class SpectralWeight(nn.Module):
    """A weight (out, ...); with `spectral_norm`, divided by its largest singular value as an (out, rest) matrix.

    With `zero`, it starts at 0. Raise ValueError if both are set: 0 / 0 is NaN.
    """

    u: Tensor
    v: Tensor

    def __init__(self, shape: tuple[int, ...], spectral_norm: bool, zero: bool = False):
        super().__init__()
        if zero and spectral_norm:
            raise ValueError("a weight under spectral norm cannot start at 0")
        self.weight = nn.Parameter(torch.empty(shape))
        self.spectral_norm = spectral_norm
        self.zero = zero
        if spectral_norm:
            rows, columns = shape[0], self.weight[0].numel()
            self.register_buffer("u", F.normalize(torch.randn(rows), dim=0, eps=EPS))
            self.register_buffer("v", F.normalize(torch.randn(columns), dim=0, eps=EPS))

    def sigma(self) -> Tensor:
        """Return the estimate u^T W v of the largest singular value; its gradient with respect to W is u v^T."""
        return torch.dot(self.u, torch.mv(self.weight.flatten(1), self.v))

    def normalized_weight(self) -> Tensor:
        """Return the weight that the layer multiplies by, in float32."""
        return self.weight / self.sigma() if self.spectral_norm else self.weight

    def _flags(self) -> str:
        """Return the last part of every layer's repr."""
        bias = f"bias={self.bias is not None}, " if hasattr(self, "bias") else ""
        return f"{bias}spectral_norm={self.spectral_norm}"

    @torch.no_grad()
    def iterate(self) -> None:
        """Run one power iteration: v <- W^T u, u <- W v, each scaled to unit length."""
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(torch.mv(matrix.T, self.u), dim=0, eps=EPS))
        self.u.copy_(F.normalize(torch.mv(matrix, self.v), dim=0, eps=EPS))


def spectral_weights(network: nn.Module) -> dict[str, SpectralWeight]:
    """Return the spectrally normalized layers of a network by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, SpectralWeight) and m.spectral_norm}


def power_iteration(network: nn.Module) -> None:
    """Run one power iteration on each spectrally normalized weight of a network."""
    for layer in spectral_weights(network).values():
        layer.iterate()


class Conv2d(SpectralWeight):
    """A size-preserving k x k convolution (k odd), with resampling: (N, I, H, W) -> (N, O, H', W').

    `resample` "up" adds nearest up-sampling by 2 before it (H' = 2H), "down" adds 2x2 average pooling after it
    (H' = H/2). Both require k = 1 or 3 and no `dilation`.
    """

    fused = True  # False: resampling by its plain definition, for tests and the benchmark's baseline

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        spectral_norm: bool,
        bias: bool = True,
        resample: Literal["up", "down"] | None = None,
        dilation: int = 1,
        zero: bool = False,
    ):
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), spectral_norm, zero)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.resample = resample
        self.dilation = dilation

    def extra_repr(self) -> str:
        out_channels, in_channels, k, _ = self.weight.shape
        more = f", resample={self.resample}" if self.resample else ""
        more += f", dilation={self.dilation}" if self.dilation > 1 else ""
        return f"{in_channels}, {out_channels}, {k}x{k}{more}, {self._flags()}"

    def forward(self, x: Tensor) -> Tensor:
        weight = self.normalized_weight()
        if self.resample == "up":
            return (upsample_conv if self.fused else plain_upsample_conv)(x, weight, self.bias)
        if self.resample == "down":
            return (conv_pool if self.fused else plain_conv_pool)(x, weight, self.bias)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        padding = self.dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight.to(x.dtype), bias, padding=padding, dilation=self.dilation)


class Linear(SpectralWeight):
    """A fully connected layer: (N, I) -> (N, O)."""

    def __init__(
        self, in_features: int, out_features: int, *, spectral_norm: bool, bias: bool = True, zero: bool = False
    ):
        super().__init__((out_features, in_features), spectral_norm, zero)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, {self._flags()}"

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalized_weight(), self.bias)


class Embedding(SpectralWeight):
    """One row per class: (N,) int64 -> (N, C). Float weights (N, classes) give the weighted sum of all rows."""

    def __init__(self, num_classes: int, channels: int, *, spectral_norm: bool):
        super().__init__((num_classes, channels), spectral_norm)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, {self._flags()}"

    def forward(self, y: Tensor) -> Tensor:
        weight = self.normalized_weight()
        return y @ weight if y.is_floating_point() else F.embedding(y, weight)
