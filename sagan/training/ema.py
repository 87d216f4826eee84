"""The moving average of the generator, which is evaluated and sampled in its stead."""

import torch
from torch import nn


def ema_decay(step: int, decay: float, start: int) -> float:
    """The decay after `step` updates: 0 (a copy) until `start`, then min(decay, (1 + t) / (10 + t))."""
    t = step - start
    return 0.0 if t <= 0 else min(decay, (1 + t) / (10 + t))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, for weights and batch-norm statistics alike.

    Singular vectors are copied: an average of unit vectors is none, and they are estimates for the newest weights.
    """
    averaged, newest = [], []
    for (name, mean), value in zip(average.state_dict().items(), network.state_dict().values(), strict=True):
        if name.endswith((".u", ".v")):
            mean.copy_(value)
        else:
            averaged.append(mean)
            newest.append(value)
    torch._foreach_lerp_(averaged, newest, 1.0 - decay)
