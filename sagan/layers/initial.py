"""Initial values of tensors, which cost nothing on the meta device, where a configuration is checked."""

from collections.abc import Callable

import torch
from torch import Tensor


def drawn(init: Callable[[Tensor], Tensor], *shape: int) -> Tensor:
    """Return a new tensor of this shape after `init`, which fills its argument with random numbers and returns it.

    On the meta device, return the shape only: there, a draw would load torch's compiler, which takes as long as torch.
    """
    x = torch.empty(shape)
    return x if x.is_meta else init(x)
