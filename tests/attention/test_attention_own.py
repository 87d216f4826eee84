"""Attention kinds that people write: what they may do when they are built, and in which precision they run."""

import pytest
import torch
from torch import nn

from sagan import build_discriminator, build_generator, load_config
from sagan.attention import attention_layers
from sagan.config import ConfigError

HOME = "tests.helpers.odd_attention"
NETWORKS = ("generator", "discriminator")


def configured(make_config, kind, *more):
    return make_config(*(f"model.{n}.attention.kind={HOME}.{kind}" for n in NETWORKS), *more)


def test_a_kind_may_need_numbers_when_it_is_built(make_config):
    config = configured(make_config, "ComputesWhenBuilt")
    assert {layer.scale for layer in attention_layers(build_generator(config)).values()} == {3.0}


def test_an_option_without_a_default_has_to_be_given(make_config):
    with pytest.raises(ConfigError, match=r"attention.options.width: kind .*OfFloatParameters has no default for it"):
        configured(make_config, "OfFloatParameters")


def test_activations_stay_in_bf16_behind_a_kind_with_float32_parameters(make_config):
    widths = (f"model.{network}.attention.options.width=2" for network in NETWORKS)
    config = configured(make_config, "OfFloatParameters", *widths)
    generator, discriminator = build_generator(config), build_discriminator(config)
    dtypes = []
    for network in (generator, discriminator):
        network.compute_dtype = torch.bfloat16
        for layer in attention_layers(network).values():
            nn.init.constant_(layer.gamma, 0.5)
        for block in network.blocks:
            block.register_forward_hook(lambda block, inputs, output: dtypes.append(output.dtype))
    discriminator(generator(torch.randn(2, generator.z_dim), torch.tensor([0, 1])), torch.tensor([0, 1]))
    assert set(dtypes) == {torch.bfloat16} and len(dtypes) == len(generator.blocks) + len(discriminator.blocks)


def test_a_kind_that_fails_when_it_is_built_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_kind.py").write_text(
        "from sagan.attention import Attention\n\n\nclass Broken(Attention):\n"
        "    def __init__(self, options, place):\n        raise KeyError('no such table')\n\n"
        "    def transform(self, x):\n        return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError, match="no such table"):  # the user's own error, with its traceback
        load_config(None, ["model.generator.attention.kind=broken_kind.Broken"])
