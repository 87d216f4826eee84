"""Layers with spectral normalisation, and conditional batch norm.

Spectral normalisation (Miyato et al. 2018): a weight is divided by an estimate of its largest singular value. Here the
estimate is refined only by an explicit `power_iteration(network)`; reading a weight changes nothing. So the training
step decides how often singular vectors move (one time per discriminator step, as in the authors' code), and sampling,
evaluation and viewing never move them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.resampling import conv_pool, plain_conv_pool, plain_upsample_conv, upsample_conv

EPS = 1e-12


class SpectralWeight(nn.Module):
    """A weight (out, ...), divided by its largest singular value as an (out, rest) matrix if `spectral_norm`.

    `zero`: it starts at 0. Raises ValueError if it is to be divided too: 0 / 0 is NaN.
    """

    def __init__(self, shape: tuple[int, ...], spectral_norm: bool, zero: bool = False):
        super().__init__()
        if zero and spectral_norm:
            raise ValueError("a weight under spectral norm cannot start at 0")
        self.weight = nn.Parameter(torch.empty(shape))
        self.spectral_norm, self.zero = spectral_norm, zero
        if spectral_norm:
            rows, columns = shape[0], self.weight[0].numel()
            self.register_buffer("u", F.normalize(torch.randn(rows), dim=0, eps=EPS))
            self.register_buffer("v", F.normalize(torch.randn(columns), dim=0, eps=EPS))

    def sigma(self) -> Tensor:
        """The estimate u^T W v of the largest singular value; its gradient with respect to W is u v^T."""
        return torch.dot(self.u, torch.mv(self.weight.flatten(1), self.v))

    def normalized_weight(self) -> Tensor:
        """The weight that the layer multiplies by, in float32."""
        return self.weight / self.sigma() if self.spectral_norm else self.weight

    def _flags(self) -> str:
        """Return what the repr of every layer ends with."""
        bias = f"bias={self.bias is not None}, " if hasattr(self, "bias") else ""
        return f"{bias}spectral_norm={self.spectral_norm}"

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration: v <- W^T u, u <- W v, each to unit length."""
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(torch.mv(matrix.T, self.u), dim=0, eps=EPS))
        self.u.copy_(F.normalize(torch.mv(matrix, self.v), dim=0, eps=EPS))


def spectral_weights(network: nn.Module) -> dict[str, SpectralWeight]:
    """The spectrally normalised layers of a network, by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, SpectralWeight) and m.spectral_norm}


def power_iteration(network: nn.Module) -> None:
    """One power iteration for each spectrally normalised weight of the network."""
    for layer in spectral_weights(network).values():
        layer.iterate()


class Conv2d(SpectralWeight):
    """k x k convolution (k odd) that keeps the size: (N, I, H, W) -> (N, O, H', W'), with H' = H, 2H or H/2.

    `resample` "up" puts nearest up-sampling by 2 before it, "down" 2x2 average pooling after it; both want k = 1 or 3
    and no `dilation`.
    """

    fused = True  # False: the plain definition of resampling, for tests and for the benchmark's baseline.

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        spectral_norm: bool,
        bias: bool = True,
        resample: str | None = None,
        dilation: int = 1,
        zero: bool = False,
    ):
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), spectral_norm, zero)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.resample, self.dilation = resample, dilation

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
    """(N, I) -> (N, O)."""

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
    """One row per class: (N,) int64 -> (N, C). Weights over classes, (N, classes) float, give that mixture of rows."""

    def __init__(self, num_classes: int, channels: int, *, spectral_norm: bool):
        super().__init__((num_classes, channels), spectral_norm)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, {self._flags()}"

    def forward(self, y: Tensor) -> Tensor:
        weight = self.normalized_weight()
        return y @ weight if y.is_floating_point() else F.embedding(y, weight)
