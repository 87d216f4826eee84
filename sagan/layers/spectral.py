"""Layers with spectral normalization.

Spectral normalization (Miyato et al. 2018) divides a weight by an estimate of its largest singular value. Only
`Spectral.iterate` refines the estimate; reading a weight changes nothing. So the training step decides how often: D's
vectors once per update of D, and G's once per update of either network, as in the authors' code. Sampling, evaluation
and viewing never update them.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.initial import drawn
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


class Operands:
    """The prepared operands of a layer while `Weights.prepared` is active; empty otherwise."""

    def __init__(self):
        self.weight: Tensor | None = None
        """The normalized weight."""
        self.by_dtype: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}
        """Kernel and bias of a convolution by dtype."""


def unit_vector(n: int) -> Tensor:
    """Return a random vector (n,) of length 1; on the meta device, only its shape."""
    return drawn(lambda x: F.normalize(x.normal_(), dim=0, eps=EPS), n)


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
        self.operands = Operands()
        if spectral_norm:
            rows, columns = shape[0], self.weight[0].numel()
            self.register_buffer("u", unit_vector(rows))
            self.register_buffer("v", unit_vector(columns))

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the weight, or a tensor like it, as a matrix (out, rest), with `rest` in memory order.

        Nothing is copied if the tensor has the weight's memory layout.
        """
        if self.weight.ndim == 4 and not self.weight.is_contiguous():  # channels_last
            weight = weight.permute(0, 2, 3, 1)
        return weight.flatten(1)

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Invert `matrix`: the result has the weight's shape and strides."""
        return matrix.contiguous().as_strided(self.weight.shape, self.weight.stride())

    def row(self) -> Tensor:
        """Return a view of v that flattens to the order of the columns of `matrix`."""
        v = self.v.view(self.weight.shape[1:])
        return v.permute(1, 2, 0) if v.ndim == 3 and not self.weight.is_contiguous() else v

    def sigma(self) -> Tensor:
        """Return the estimate u^T W v of the largest singular value; its gradient with respect to W is u v^T."""
        return torch.dot(self.u, torch.mv(self.matrix(self.weight), self.row().flatten()))

    def normalized_weight(self) -> Tensor:
        """Return the weight that the layer multiplies by, in float32."""
        if self.operands.weight is not None:
            return self.operands.weight
        return self.weight / self.sigma() if self.spectral_norm else self.weight

    def _flags(self) -> str:
        """Return the last part of every layer's repr."""
        bias = f"bias={self.bias is not None}, " if hasattr(self, "bias") else ""
        return f"{bias}spectral_norm={self.spectral_norm}"


class SingularVectors(NamedTuple):
    """Estimates of the largest singular values of several layers and of their singular vectors."""

    u: list[Tensor]
    v: list[Tensor]
    """In the order of the columns of `SpectralWeight.matrix`."""
    sigma: list[Tensor]


def spectral_weights(network: nn.Module) -> dict[str, SpectralWeight]:
    """Return the spectrally normalized layers of a network by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, SpectralWeight) and m.spectral_norm}


class Spectral:
    """Several layers under spectral norm, whose estimates of the largest singular value are refined together."""

    def __init__(self, layers: Iterable[SpectralWeight]):
        self.layers = list(layers)
        self.find()

    def find(self) -> None:
        """Make views of weights and vectors, once: hundreds of them take a millisecond."""
        with torch.no_grad():
            self.matrices = [layer.matrix(layer.weight) for layer in self.layers]
            self.transposed = [matrix.T for matrix in self.matrices]
            self.u = [layer.u for layer in self.layers]
            self.strides = [layer.weight.stride() for layer in self.layers]
            self.memory = [layer.weight.untyped_storage() for layer in self.layers]
            self.rows = [layer.row() for layer in self.layers]

    def follow(self) -> None:
        """Make the views anew if the network has other tensors: moved, converted, or given by `weight.data = ...`."""
        now = ((layer.u, layer.weight.stride(), layer.weight.untyped_storage()) for layer in self.layers)
        before = zip(self.u, self.strides, self.memory, strict=True)
        for (u, strides, memory), (old_u, old_strides, old_memory) in zip(now, before, strict=True):
            if u is not old_u or strides != old_strides or memory is not old_memory:
                return self.find()

    @torch.no_grad()
    def iterate(self) -> SingularVectors:
        """Run one power iteration on each layer, v <- W^T u and u <- W v, scaled to unit length. Return the results."""
        if not self.layers:
            return SingularVectors([], [], [])
        self.follow()
        vs, products = [], []
        for matrix, transposed, u in zip(self.matrices, self.transposed, self.u, strict=True):
            # Both products of a layer one after the other, while a large W is still in the cache.
            vs.append(torch.mv(transposed, u))
            products.append(torch.mv(matrix, vs[-1]))
        lengths = torch._foreach_clamp_min(torch._foreach_norm(vs), EPS)
        torch._foreach_div_(vs, lengths)
        torch._foreach_div_(products, lengths)  # now W v for the unit vector v, whose length is sigma
        sigmas = torch._foreach_norm(products)
        us = torch._foreach_div(products, torch._foreach_clamp_min(sigmas, EPS))
        torch._foreach_copy_(self.u, us)
        torch._foreach_copy_(self.rows, [v.view(row.shape) for v, row in zip(vs, self.rows, strict=True)])
        return SingularVectors(list(us), vs, list(sigmas))

    @torch.no_grad()
    def vectors(self) -> SingularVectors:
        """Return the current estimates."""
        self.follow()
        vs = [row.flatten() for row in self.rows]
        products = [torch.mv(matrix, v) for matrix, v in zip(self.matrices, vs, strict=True)]
        return SingularVectors(self.u, vs, [torch.dot(u, p) for u, p in zip(self.u, products, strict=True)])


class Conv2d(SpectralWeight):
    """A size-preserving k x k convolution (k odd), with resampling: (N, I, H, W) -> (N, O, H', W').

    `resample` "up" adds nearest up-sampling by 2 before it (H' = 2H), "down" adds 2x2 average pooling after it
    (H' = H/2). Both require k = 1 or 3 and no `dilation`.
    """

    shifts: Tensor
    fused = True  # False: resample by the plain definition, for tests and the benchmark's baseline

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
        kernel, bias = self.operands.by_dtype.get(x.dtype) or (self.kernel(), self.bias)
        kernel, bias = kernel.to(x.dtype), None if bias is None else bias.to(x.dtype)
        if self.resample == "up":
            return (upsample_conv if self.fused else plain_upsample_conv)(x, kernel, bias)
        if self.resample == "down":
            return (conv_pool if self.fused else plain_conv_pool)(x, kernel, bias)
        return F.conv2d(x, kernel, bias, padding=self.dilation * (kernel.shape[-1] // 2), dilation=self.dilation)


class Linear(SpectralWeight):
    """A fully connected layer: (..., I) -> (..., O), in the dtype of its input."""

    def __init__(
        self, in_features: int, out_features: int, *, spectral_norm: bool, bias: bool = True, zero: bool = False
    ):
        super().__init__((out_features, in_features), spectral_norm, zero)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, {self._flags()}"

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.normalized_weight().to(x.dtype), bias)


class Embedding(SpectralWeight):
    """One row per class: (N,) int64 -> (N, C). Float weights (N, classes) give the weighted sum of all rows."""

    def __init__(self, num_classes: int, channels: int, *, spectral_norm: bool):
        super().__init__((num_classes, channels), spectral_norm)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, {self._flags()}"

    def forward(self, y: Tensor) -> Tensor:
        weight = self.normalized_weight()
        return y.to(weight.dtype) @ weight if y.is_floating_point() else F.embedding(y, weight)
