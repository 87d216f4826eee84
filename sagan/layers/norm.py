"""Batch normalization, conditional on the class, over one process or all."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.spectral import Embedding
from sagan.runtime.distributed import all_reduce_sum, world_size


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

    def extra_repr(self) -> str:
        rows, channels = self.gain.weight.shape
        classes = f", num_classes={rows}" if self.conditional else ""
        return f"{channels}{classes}, momentum={self.momentum}, eps={self.eps}, sync={self.sync}"

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
        """Normalize with statistics over all processes, on any device (torch's own class refuses the CPU).

        Every process must have as many values. The variance is the mean squared deviation from the mean of all: the
        difference E[x^2] - E[x]^2 would lose its digits if the mean is large.
        """
        values = x.float()
        count = world_size() * values.numel() // values.shape[1]
        mean = all_reduce_sum(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        var = all_reduce_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        scale = torch.rsqrt(var + self.eps)
        return (centred * scale[:, None, None]).to(x.dtype)
