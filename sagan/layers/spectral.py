"""Layers with spectral normalization.

Spectral normalization (Miyato et al. 2018) divides a weight by an estimate of its largest singular value. Only an
explicit `power_iteration` refines the estimate; reading a weight changes nothing. So the training step decides how
often the singular vectors are updated (once per discriminator step, as in the authors' code), and sampling, evaluation
and viewing never update them.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.resampling import (
    SHIFTS,
    conv_pool,
    plain_conv_pool,
    plain_upsample_conv,
    pool_kernel,
    upsample_conv,
    upsample_kernel,
)

EPS = 1e-12


class SpectralWeight(nn.Module):
    """A weight (out, ...); with `spectral_norm`, divided by its largest singular value as an (out, rest) matrix.

    With `zero`, it starts at 0. Raise ValueError if both are set: 0 / 0 is NaN.
    """

    u: Tensor
    v: Tensor

    normalized: Tensor | None = None
    """The normalized weight, while `ready.Weights` holds it for a whole update."""

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

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the weight, or a tensor like it, as a matrix (out, rest), with `rest` in the order of its memory.

        Nothing is copied if the tensor lies in memory as the weight does.
        """
        if self.weight.ndim == 4 and not self.weight.is_contiguous():  # channels_last
            weight = weight.permute(0, 2, 3, 1)
        return weight.flatten(1)

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Invert `matrix` for a dense one: the result has the weight's shape and strides."""
        if self.weight.ndim == 4 and not self.weight.is_contiguous():
            out, channels, height, width = self.weight.shape
            return matrix.view(out, height, width, channels).permute(0, 3, 1, 2)
        return matrix.view_as(self.weight)

    def row(self) -> Tensor:
        """Return a view of v that flattens to the order of the columns of `matrix`."""
        v = self.v.view(self.weight.shape[1:])
        return v.permute(1, 2, 0) if v.ndim == 3 and not self.weight.is_contiguous() else v

    def sigma(self) -> Tensor:
        """Return the estimate u^T W v of the largest singular value; its gradient with respect to W is u v^T."""
        return torch.dot(self.u, torch.mv(self.matrix(self.weight), self.row().flatten()))

    def normalized_weight(self) -> Tensor:
        """Return the weight that the layer multiplies by, in float32."""
        if self.normalized is not None:
            return self.normalized
        return self.weight / self.sigma() if self.spectral_norm else self.weight

    def _flags(self) -> str:
        """Return the last part of every layer's repr."""
        bias = f"bias={self.bias is not None}, " if hasattr(self, "bias") else ""
        return f"{bias}spectral_norm={self.spectral_norm}"


class SingularVectors(NamedTuple):
    """Estimates of the largest singular value of several layers, and of its singular vectors."""

    u: list[Tensor]
    v: list[Tensor]
    """In the order of the columns of `SpectralWeight.matrix`."""
    sigma: list[Tensor]


def spectral_weights(network: nn.Module) -> dict[str, SpectralWeight]:
    """Return the spectrally normalized layers of a network by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, SpectralWeight) and m.spectral_norm}


# torch's own optimizers call these private functions too: one call for all layers.
# pyright: reportPrivateImportUsage=false


@torch.no_grad()
def power_iteration(layers: Collection[SpectralWeight]) -> SingularVectors:
    """Run one power iteration on each layer: v <- W^T u, u <- W v, each scaled to unit length. Return the results."""
    if not layers:
        return SingularVectors([], [], [])
    vs, products = [], []
    for layer in layers:  # both products of a layer in a row, while a large W is still in the cache
        matrix = layer.matrix(layer.weight)
        vs.append(torch.mv(matrix.T, layer.u))
        products.append(torch.mv(matrix, vs[-1]))
    lengths = torch._foreach_clamp_min(torch._foreach_norm(vs), EPS)
    torch._foreach_div_(vs, lengths)
    torch._foreach_div_(products, lengths)  # now W v for the unit vector v, whose length is sigma
    sigmas = torch._foreach_norm(products)
    us = torch._foreach_div(products, torch._foreach_clamp_min(sigmas, EPS))
    rows = [layer.row() for layer in layers]
    torch._foreach_copy_([layer.u for layer in layers], us)
    torch._foreach_copy_(rows, [v.view_as(row) for v, row in zip(vs, rows, strict=True)])
    return SingularVectors(list(us), vs, list(sigmas))


@torch.no_grad()
def singular_vectors(layers: Collection[SpectralWeight]) -> SingularVectors:
    """Return the estimates as they are."""
    return SingularVectors(
        [layer.u for layer in layers],
        [layer.row().flatten() for layer in layers],
        [layer.sigma() for layer in layers],
    )


class Conv2d(SpectralWeight):
    """A size-preserving k x k convolution (k odd), with resampling: (N, I, H, W) -> (N, O, H', W').

    `resample` "up" adds nearest up-sampling by 2 before it (H' = 2H), "down" adds 2x2 average pooling after it
    (H' = H/2). Both require k = 1 or 3 and no `dilation`.
    """

    shifts: Tensor
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
        self.operands: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}
        """Kernel and bias by dtype, while `ready.Weights` holds them for a whole update."""
        if resample and kernel_size == 3:
            self.register_buffer("shifts", torch.tensor(SHIFTS), persistent=False)

    def extra_repr(self) -> str:
        out_channels, in_channels, k, _ = self.weight.shape
        more = f", resample={self.resample}" if self.resample else ""
        more += f", dilation={self.dilation}" if self.dilation > 1 else ""
        return f"{in_channels}, {out_channels}, {k}x{k}{more}, {self._flags()}"

    def kernel(self) -> Tensor:
        """Return the kernel that the layer multiplies by, in float32: 4x4 for a 3x3 one fused with resampling."""
        weight = self.normalized_weight()
        if self.resample is None or weight.shape[-1] == 1 or not self.fused:
            return weight
        return (upsample_kernel if self.resample == "up" else pool_kernel)(weight, self.shifts)

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.operands.get(x.dtype) or (self.kernel(), self.bias)
        kernel, bias = kernel.to(x.dtype), None if bias is None else bias.to(x.dtype)
        if self.resample == "up":
            return (upsample_conv if self.fused else plain_upsample_conv)(x, kernel, bias)
        if self.resample == "down":
            return (conv_pool if self.fused else plain_conv_pool)(x, kernel, bias)
        return F.conv2d(x, kernel, bias, padding=self.dilation * (kernel.shape[-1] // 2), dilation=self.dilation)


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
