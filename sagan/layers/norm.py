"""Class-conditional batch normalization, within one process or over all."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers.spectral import Embedding
from sagan.runtime.distributed import all_reduce_sum, world_size


class BatchNorm(nn.Module):
    """Batch norm with one gain and bias per class, or one for all if `num_classes` is 0: (N, C, H, W) -> (N, C, H, W).

    Under `spectral_norm` the gain is 1 + table / sigma, because a table of ones divided by its sigma would be small.

    Source: the authors' code; de Vries et al. 2017 for the conditioning, BigGAN and StudioGAN for the spectral option.
    """

    running_mean: Tensor
    running_var: Tensor

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
        self.momentum = momentum
        self.eps = eps
        self.sync = sync
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def extra_repr(self) -> str:
        rows, channels = self.gain.weight.shape
        classes = f", num_classes={rows}" if self.conditional else ""
        return f"{channels}{classes}, momentum={self.momentum}, eps={self.eps}, sync={self.sync}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Normalize x, then apply the gain and bias of y: classes (N,), or float weights over them (N, num_classes).

        Without classes y is ignored.
        """
        gain, bias = (t(y) if self.conditional else t.normalized_weight() for t in (self.gain, self.bias))
        gain = gain + 1 if self.gain.spectral_norm else gain  # (N or 1, C)
        synchronized = self.training and self.sync
        if not (self.conditional or synchronized):
            return self.normalize(x, gain[0], bias[0])  # in one kernel, and so is its backward pass
        h = self.normalize_over_processes(x) if synchronized else self.normalize(x)  # (N, C, H, W)
        return torch.addcmul(bias.to(h.dtype)[:, :, None, None], h, gain.to(h.dtype)[:, :, None, None])

    def normalize(self, x: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Normalize each channel to zero mean and unit variance, then apply a gain (C,) and a bias (C,) if given.

        Training uses the statistics of the batch, evaluation the running statistics.
        """
        return F.batch_norm(x, self.running_mean, self.running_var, gain, bias, self.training, self.momentum, self.eps)

    def normalize_over_processes(self, x: Tensor) -> Tensor:
        """Normalize with statistics over all processes, on any device (torch's SyncBatchNorm refuses the CPU).

        Every process must hold the same number of values. The variance is the mean squared deviation from the global
        mean: E[x^2] - E[x]^2 would lose precision for a large mean.
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
