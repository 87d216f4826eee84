"""The cost of a pair of networks: parameters, and arithmetic per image."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from sagan.config import Config
from sagan.layers.prepared import Weights
from sagan.models.build import build_discriminator, build_generator
from sagan.runtime.flops import forward_flops

_known: dict[str, dict[str, int]] = {}  # counting takes a second for each pair of networks, and many runs share one


def network_cost(config: Config) -> dict[str, int]:
    """Return `parameters` of G and D, and `flops` of one image's forward pass through both (a multiply-add is two).

    `config.data.num_classes` must be a number. Spectral normalization is not counted, because its cost is per step, not
    per image.
    """
    key = repr((config.data, config.model))
    if key not in _known:
        parameters = sum(p.numel() for build in BUILDERS for p in build(config).parameters())
        _known[key] = {"parameters": parameters, "flops": pair_flops(config)}
    return _known[key]


BUILDERS = build_generator, build_discriminator


def pair_flops(config: Config) -> int:
    """Return the FLOPs of one image's forward pass through both networks, counted on the meta device.

    The preparation of weights, such as the fusing of convolution and resampling, is per step and not counted either.
    """
    model = config.model
    plain = replace(
        model,
        generator=replace(model.generator, spectral_norm=False, norm_spectral=False),
        discriminator=replace(model.discriminator, spectral_norm=False),
    )
    config = replace(config, model=plain)
    generator = build_generator(config).to("meta").eval()
    discriminator = build_discriminator(config).to("meta").eval()
    y = torch.zeros(1, dtype=torch.long, device="meta") if config.data.num_classes else None
    z = torch.empty(1, generator.z_dim, device="meta")
    images = torch.empty(1, generator.image_channels, *generator.size, device="meta")
    return _prepared_flops(generator, z, y) + _prepared_flops(discriminator, images, y)


def _prepared_flops(network: nn.Module, *inputs: Tensor | None) -> int:
    with Weights(network).prepared(torch.float32, power_iteration=False):
        return forward_flops(network, *inputs)
