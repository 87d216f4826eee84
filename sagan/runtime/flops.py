"""Arithmetic of a forward pass, counted without doing it."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# A product of a matrix and a vector, which the counter does not know.
PRODUCTS = {torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1]}


@torch.no_grad()
def forward_flops(network: nn.Module, *inputs) -> int:
    """FLOPs of network(*inputs): products and convolutions, a multiply-add counted as two.

    To be called on the meta device: kernels of a real one may pad.
    """
    with FlopCounterMode(display=False, custom_mapping=PRODUCTS) as counter:
        network(*inputs)
    return counter.get_total_flops()
