"""Operations on a whole network of these layers: evaluation mode and initial weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sagan.layers.norm import BatchNorm
from sagan.layers.spectral import Spectral, SpectralWeight, spectral_weights


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put the network in evaluation mode for the duration of the block, then each module in its own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield network.eval()
    finally:
        for module, training in modes:
            module.training = training


def working_dtype(compute_dtype: torch.dtype, weight: Tensor) -> torch.dtype:
    """Return the dtype of a network's activations: that of its weights if they were converted, as by `.double()`."""
    return compute_dtype if weight.dtype == torch.float32 else weight.dtype


def initialize(network: nn.Module, kind: str) -> None:
    """Draw the initial weights: `xavier` (uniform, like the authors) or `orthogonal` (like BigGAN).

    Weights built with `zero` start at 0, like all biases. Batch norm starts at its initial gain and bias 0. Its tables
    under spectral norm cannot, because 0 / 0 is NaN, so they start like any other weight. On the meta device there are
    no numbers to draw.
    """
    if any(parameter.is_meta for parameter in network.parameters()):
        return
    init = {"xavier": nn.init.xavier_uniform_, "orthogonal": nn.init.orthogonal_}[kind]
    for module in network.modules():
        if isinstance(module, SpectralWeight):
            (nn.init.zeros_ if module.zero else init)(module.weight)
    for module in network.modules():
        if isinstance(module, BatchNorm) and not module.gain.spectral_norm:
            nn.init.constant_(module.gain.weight, module.initial_gain)
            nn.init.zeros_(module.bias.weight)
    # A random u underestimates sigma, and the errors multiply from layer to layer, so start near convergence.
    layers = Spectral(spectral_weights(network).values())
    for _ in range(15):
        layers.iterate()
