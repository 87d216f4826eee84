"""Layers with spectral normalisation, and conditional batch norm.

Spectral normalisation (Miyato et al. 2018): a weight is divided by an estimate of its largest singular value. Here the
estimate is refined only by an explicit `power_iteration(network)`; reading a weight changes nothing. So the training
step decides how often singular vectors move (one time per discriminator step, as in the authors' code), and sampling,
evaluation and viewing never move them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.distributed import all_reduce_sum
from sagan.models.resampling import conv_pool, plain_conv_pool, plain_upsample_conv, upsample_conv

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

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalized_weight(), self.bias)


class Embedding(SpectralWeight):
    """One row per class: (N,) int64 -> (N, C). Weights over classes, (N, classes) float, give that mixture of rows."""

    def __init__(self, num_classes: int, channels: int, *, spectral_norm: bool):
        super().__init__((num_classes, channels), spectral_norm)

    def forward(self, y: Tensor) -> Tensor:
        weight = self.normalized_weight()
        return y @ weight if y.is_floating_point() else F.embedding(y, weight)


class BatchNorm(nn.Module):
    """Batch norm with a gain and a bias per class, each in a table of its own; with no classes, one row serves all.

    Under `spectral_norm` the gains are 1 + table / sigma, since a table of ones divided by its sigma would be small.

    Source: the authors' code; de Vries et al. 2017 for the conditioning, BigGAN and StudioGAN for the spectral option.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int = 0,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        sync: bool = False,
        spectral_norm: bool = False,
        initial_gain: float = 1.0,
    ):
        super().__init__()
        rows = max(num_classes, 1)
        self.gain = Embedding(rows, channels, spectral_norm=spectral_norm)
        self.bias = Embedding(rows, channels, spectral_norm=spectral_norm)
        self.conditional = num_classes > 0
        self.initial_gain = initial_gain
        self.momentum, self.eps, self.sync = momentum, eps, sync
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.normalize(x)  # (N, C, H, W)
        rows = y if self.conditional else torch.zeros(1, dtype=torch.long, device=x.device)
        gain = self.gain(rows) + 1 if self.gain.spectral_norm else self.gain(rows)  # (N or 1, C)
        bias = self.bias(rows)
        return torch.addcmul(bias.to(h.dtype)[:, :, None, None], h, gain.to(h.dtype)[:, :, None, None])

    def normalize(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance per channel: over the batch in training, by the running statistics otherwise."""
        if self.training and self.sync:
            return self.normalize_over_processes(x)
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps)

    def normalize_over_processes(self, x: Tensor) -> Tensor:
        """`normalize` with statistics over all processes, on any device (torch's own class refuses the CPU)."""
        values = x.float()
        count = torch.tensor([values.numel() / values.shape[1]], device=x.device)
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        total, squares, count = all_reduce_sum(sums).split([x.shape[1], x.shape[1], 1])
        mean = total / count
        var = (squares / count - mean.square()).clamp(min=0)  # a difference of large numbers may fall below 0
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = torch.rsqrt(var + self.eps)
        return ((values - mean[:, None, None]) * scale[:, None, None]).to(x.dtype)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, for the length of the block."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


def initialize(network: nn.Module, kind: str) -> None:
    """Initial weights, the same for every layer: Xavier-uniform (the authors) or orthogonal (BigGAN); zero biases, and
    zero where a layer asks for it.

    Tables of batch norm without spectral norm start at gain 1, bias 0. With it they cannot: a zero weight has no
    direction to normalise (0 / 0), so they start like any other weight.
    """
    init = {"xavier": nn.init.xavier_uniform_, "orthogonal": nn.init.orthogonal_}[kind]
    for module in network.modules():
        if isinstance(module, SpectralWeight):
            (nn.init.zeros_ if module.zero else init)(module.weight)
    for module in network.modules():
        if isinstance(module, BatchNorm) and not module.gain.spectral_norm:
            nn.init.constant_(module.gain.weight, module.initial_gain)
            nn.init.zeros_(module.bias.weight)
    # A random u underestimates sigma, and an underestimate multiplies through every layer: start near convergence.
    for _ in range(15):
        power_iteration(network)
