"""The moving average (EMA) of the generator, which is evaluated and sampled instead of the generator itself."""

import torch
from torch import nn


def ema_decay(step: int, decay: float, start: int) -> float:
    """Return the decay after `step` updates: 0 (a copy) up to `start`, then min(decay, (1 + t) / (10 + t))."""
    t = step - start
    return 0.0 if t <= 0 else min(decay, (1 + t) / (10 + t))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update weights and running statistics: average <- decay * average + (1 - decay) * network.

    Singular vectors are copied, because an average of unit vectors is not a unit vector.
    """
    averaged, newest = [], []
    for (name, mean), value in zip(average.state_dict().items(), network.state_dict().values(), strict=True):
        if name.endswith((".u", ".v")):
            mean.copy_(value)
        else:
            averaged.append(mean)
            newest.append(value)
    # torch's own averaged models call this private function too.
    torch._foreach_lerp_(averaged, newest, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
