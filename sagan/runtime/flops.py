"""FLOP counts of a forward pass, without running it."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# The matrix-vector product, which the counter does not know.
PRODUCTS = {torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1]}


@torch.no_grad()
def forward_flops(network: nn.Module, *inputs: Tensor | None) -> int:
    """Return the FLOPs of network(*inputs): matrix products and convolutions, with two per multiply-add.

    Call it on the meta device: the kernels of a real device may pad.
    """
    with FlopCounterMode(display=False, custom_mapping=PRODUCTS) as counter:
        network(*inputs)
    return counter.get_total_flops()
