"""Attention layers turned into the identity: what a score without them measures."""

import pytest
import torch

from sagan import build_generator
from sagan.attention import KINDS, ablate_layers, attention_layers, capture_maps
from sagan.config import ConfigError

ATTENDED = ("model.generator.channels=16", "model.generator.attention.resolutions=[8,16]")


def generator_of(make_config, kind, gate="zero"):
    generator = build_generator(
        make_config(*ATTENDED, f"model.generator.attention.kind={kind}", f"model.generator.attention.gate={gate}")
    ).eval()
    with torch.no_grad():
        for layer in attention_layers(generator).values():
            if layer.gamma is not None:
                layer.gamma.fill_(0.7)
    return generator


@pytest.mark.parametrize("kind", [name for name, cls in KINDS.items() if cls is not None])
def test_a_layer_without_effect_is_one_whose_gamma_is_0(make_config, kind):
    z, y = torch.randn(2, 8), torch.tensor([0, 1])
    bypassed, silenced = generator_of(make_config, kind), generator_of(make_config, kind)
    before = bypassed(z, y)
    assert ablate_layers(bypassed, "all") == ["blocks.0.attention", "blocks.1.attention"]
    with torch.no_grad():
        for layer in attention_layers(silenced).values():
            layer.gamma.zero_()
    assert torch.equal(bypassed(z, y), silenced(z, y)) and not torch.equal(bypassed(z, y), before)


def test_one_layer_alone_and_a_kind_without_gamma(make_config):
    z, y = torch.randn(2, 8), torch.tensor([0, 1])
    generator = generator_of(make_config, "se", gate="none")
    assert ablate_layers(generator, "blocks.1.attention") == ["blocks.1.attention"]
    with capture_maps(generator) as maps:
        generator(z, y)
    assert [len(found) for found in maps.values()] == [1, 0]


def test_a_layer_that_does_not_exist_is_named(make_config):
    generator = generator_of(make_config, "sagan")
    with pytest.raises(ConfigError, match="^layer blocks.2: expected all, or one of the attention layers: blo"):
        ablate_layers(generator, "blocks.2")
    with pytest.raises(ConfigError, match="^layer all: .* none"):
        ablate_layers(build_generator(make_config("model.generator.attention.kind=none")), "all")
