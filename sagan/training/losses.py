"""The hinge loss (Lim and Ye 2017; Zhang et al. 2019, equation 4): scalars, from logits (N,)."""

import torch.nn.functional as F
from torch import Tensor


def discriminator_hinge(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """Return -E[D(G(z))]."""
    return -fake_logits.mean()
