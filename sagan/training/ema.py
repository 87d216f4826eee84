"""The moving average (EMA) of the generator, which is evaluated and sampled instead of the generator itself."""

import torch
from torch import Tensor, nn

from sagan.layers.spectral import spectral_weights

# torch's own averaged models call these private functions too.


def ema_decay(step: int, decay: float, start: int) -> float:
    """Return the decay after `step` updates: 0 (a copy) up to `start`, then min(decay, (1 + t) / (10 + t))."""
    t = step - start
    return 0.0 if t <= 0 else min(decay, (1 + t) / (10 + t))


class MovingAverage:
    """The moving average of one network's weights and running statistics, kept in another network.

    Singular vectors are copied, because an average of unit vectors is not a unit vector, and so are integers, such as
    the counter of torch's own batch norm.
    """

    def __init__(self, average: nn.Module, network: nn.Module):
        vectors = {f"{layer}.{vector}" for layer in spectral_weights(network) for vector in "uv"}
        pairs = zip(average.state_dict().items(), network.state_dict().values(), strict=True)
        named = [(name, mean, value) for (name, mean), value in pairs]
        exact = vectors | {name for name, mean, _ in named if not mean.is_floating_point()}
        averaged = [pair for name, *pair in named if name not in exact]
        copied = [pair for name, *pair in named if name in exact]
        self.means, self.values = [mean for mean, _ in averaged], [value for _, value in averaged]
        self.copies, self.originals = [mean for mean, _ in copied], [value for _, value in copied]

    @torch.no_grad()
    def update(self, decay: Tensor) -> None:
        """Set average <- decay * average + (1 - decay) * network; an exact copy for a decay of 0."""
        if self.copies:
            torch._foreach_copy_(self.copies, self.originals)
        if decay.device.type == "cpu":  # one pass over memory instead of three
            torch._foreach_lerp_(self.means, self.values, 1 - decay.item())
            return
        torch._foreach_sub_(self.means, self.values)  # lerp does not accept a weight on the device
        torch._foreach_mul_(self.means, decay)
        torch._foreach_add_(self.means, self.values)
