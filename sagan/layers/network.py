"""What is done to a whole network of these layers: initial weights, evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sagan.layers.norm import BatchNorm
from sagan.layers.spectral import SpectralWeight, power_iteration


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, for the length of the block."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


def initialize(network: nn.Module, kind: str) -> None:
    """Initial weights, the same for every layer: Xavier-uniform (the authors) or orthogonal (BigGAN); zero biases, and
    zero where a layer asks for it.

    Tables of batch norm without spectral norm start at gain 1, bias 0. With it they cannot: a zero weight has no
    direction to normalise (0 / 0), so they start like any other weight.
    """
    init = {"xavier": nn.init.xavier_uniform_, "orthogonal": nn.init.orthogonal_}[kind]
    for module in network.modules():
        if isinstance(module, SpectralWeight):
            (nn.init.zeros_ if module.zero else init)(module.weight)
    for module in network.modules():
        if isinstance(module, BatchNorm) and not module.gain.spectral_norm:
            nn.init.constant_(module.gain.weight, module.initial_gain)
            nn.init.zeros_(module.bias.weight)
    # A random u underestimates sigma, and an underestimate multiplies through every layer: start near convergence.
    for _ in range(15):
        power_iteration(network)
