"""Attention inside the networks: places, gates, custom kinds, and refusals."""

import pytest
import torch

from sagan.attention import KINDS, capture_maps, resolve
from sagan.config import AttentionConfig, ConfigError
from sagan.layers import Conv2d
from sagan.models.build import build_discriminator, build_generator
from sagan.presets import load_config
from tests.helpers.attention_kinds import build, images


def networks(kind: str, *overrides: str, channels: int = 16):
    """Return the small 32 x 32 model with the same attention in both networks."""
    both = [
        f"model.{network}.{option}"
        for network in ("generator", "discriminator")
        for option in (f"channels={channels}", f"attention.kind={kind}", *overrides)
    ]
    config = load_config(None, ["data.num_classes=10", *both])
    return build_generator(config), build_discriminator(config)


@pytest.mark.parametrize("placement", ["between", "in_residual"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_networks_with_every_kind(kind, placement):
    """At gain 0 they equal the networks without attention, and all gradients are finite."""
    reference = networks("none")
    generator, discriminator = networks(kind, f"attention.placement={placement}")
    for network, plain in zip((generator, discriminator), reference, strict=True):
        missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
        assert not unexpected and all(".attention." in name for name in missing)
    z, y = torch.randn(4, 128), torch.arange(4)
    fake = generator(z, y)
    logits = discriminator(fake, y)
    assert torch.equal(logits, reference[1](reference[0](z, y), y))
    logits.sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_places_of_attention():
    """between: after the sum. in_residual: on the branch, after the discriminator's fused pooling, before the sum."""
    for placement in ("between", "in_residual"):
        generator, discriminator = networks("se", f"attention.placement={placement}", "attention.gate=none")
        for block, arguments in (
            (generator.blocks[1], (torch.randn(2, 64, 8, 8), torch.arange(2))),
            (discriminator.blocks[0], (torch.randn(2, 3, 32, 32),)),
        ):
            attention, block.attention = block.attention, torch.nn.Identity()
            total = block(*arguments)
            shortcut = block.shortcut(arguments[0])
            block.attention = attention
            expected = attention(total) if placement == "between" else attention(total - shortcut) + shortcut
            torch.testing.assert_close(block(*arguments), expected, rtol=1e-4, atol=1e-5)


def test_maps_of_both_networks():
    generator, discriminator = networks("cbam")
    with capture_maps(generator) as of_generator, capture_maps(discriminator) as of_discriminator:
        discriminator(generator(torch.randn(2, 128), torch.arange(2)), torch.arange(2))
    assert [m.kind for m in of_generator["blocks.1.attention"]] == ["channel gate", "spatial gate"]
    assert [m.weights.shape for m in of_discriminator["blocks.0.attention"]] == [(2, 32), (2, 1, 16, 16)]


def test_same_weights_for_every_gate_and_from_every_state_of_the_random_generator():
    first = networks("pyramid-oc")[0].state_dict()
    torch.manual_seed(77)
    second = networks("pyramid-oc")[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checking_a_configuration_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    load_config(None, ["model.generator.attention.kind=asp-oc"])
    assert torch.equal(before, torch.get_rng_state())


def test_a_custom_kind():
    options = "attention.options.kernel_size=5"
    generator, discriminator = networks("tests.helpers.own_attention.NeighbourhoodGate", options)
    assert generator.blocks[1].attention.score.weight.shape == (1, 64, 5, 5)
    with capture_maps(discriminator) as maps:
        discriminator(generator(torch.randn(2, 128), torch.arange(2)), torch.arange(2))
    assert maps["blocks.0.attention"][0].weights.shape == (2, 1, 16, 16)
    layer, x = build("tests.helpers.own_attention.NeighbourhoodGate", spectral_norm=True), images()
    assert torch.equal(layer(x), x)


def test_zero_weights_under_spectral_norm_are_refused():
    with pytest.raises(ValueError, match="cannot start at 0"):
        Conv2d(4, 4, 1, spectral_norm=True, zero=True)


# kind, options, channels, size of the map, what the message says
REFUSED = [
    ("residual", {}, 24, (8, 8), r"its 691 parameters differ by -4\.2% from the 721 of sagan"),
    ("residual", {}, 8, (8, 8), "differ by -14.8%"),
    ("sagan", {}, 36, (8, 8), "multiple of 8"),
    ("sagan", {}, 32, (7, 8), "even height and width"),
    ("multihead", {"heads": 5}, 32, (8, 8), "options.heads 5"),
    ("multihead", {"heads": 0}, 32, (8, 8), "options.heads 0"),
    ("multihead", {"positions": "sinusoidal", "heads": 1}, 34, (8, 8), "multiple of 4"),
    ("multihead", {"pool": "max"}, 32, (8, 5), "options.pool max"),
    ("additive", {}, 36, (8, 8), "multiple of 8"),
    ("additive", {}, 32, (5, 8), "even height and width"),
    ("non-local", {}, 32, (8, 5), "options.subsample pool-first"),
    ("non-local", {}, 33, (8, 8), "multiple of 2"),
    ("base-oc", {}, 33, (8, 8), "multiple of 2"),
    ("pyramid-oc", {"windows": [3]}, 32, (8, 8), r"options.windows \[3\]"),
    ("pyramid-oc", {"windows": [8]}, 32, (8, 8), "at least 2 x 2"),
    ("asp-oc", {}, 34, (8, 8), "multiple of 4"),
    ("asp-oc", {}, 32, (7, 8), "even height and width"),
    ("asp-oc", {"dilations": [1, 8]}, 32, (8, 16), r"options.dilations \[1, 8\]"),
    ("asp-oc", {}, 32, (2, 4), "less than the shorter side"),
    ("se", {"reduction": 5}, 32, (8, 8), "options.reduction 5"),
    ("ge", {"extent": 8}, 32, (4, 16), "options.extent 8"),
    ("ge", {"extent": 2}, 24, (8, 8), "multiple of 16"),
    ("cbam", {"reduction": 0}, 32, (8, 8), "options.reduction 0"),
    ("residual-attention", {"depth": 3}, 32, (8, 8), "options.depth 3"),
    ("residual-attention", {}, 34, (8, 8), "multiple of 4"),
    ("global-context", {"reduction": 32}, 32, (8, 8), "at least 2 channels"),
    ("eca", {"kernel_size": 4}, 32, (8, 8), "options.kernel_size 4"),
    ("coordinate", {"reduction": 0}, 32, (8, 8), "options.reduction 0"),
]


@pytest.mark.parametrize("kind, options, channels, size, message", REFUSED)
def test_refusals_name_kind_map_and_reason(kind, options, channels, size, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(kind, options, channels=channels, size=size)
    assert str(error.value).startswith(f"attention: kind {kind} ")
    assert f"{size[0]}x{size[1]} map with {channels} channels" in str(error.value)


def test_a_configuration_is_refused_before_anything_is_built():
    with pytest.raises(
        ConfigError, match="model.discriminator.attention: kind se does not fit a 16x16 map with 40 channels"
    ):
        load_config(None, ["model.discriminator.channels=20", "model.discriminator.attention.kind=se"])


ODD_KINDS = """
from dataclasses import dataclass
from sagan.attention import Attention

class Kind(Attention):
    def transform(self, x):
        return x

class Plain(Kind):
    Options = dict

@dataclass(frozen=True)
class EvenOptions:
    n: int = 2

    def __post_init__(self):
        if self.n % 2:
            raise ValueError("n must be even")

class Even(Kind):
    Options = EvenOptions
"""


@pytest.mark.parametrize(
    "spec, message",
    [
        (AttentionConfig(kind="sagn"), "attention.kind sagn: expected one of none, residual, sagan"),
        (AttentionConfig(kind="none", options={"heads": 1}), "kind none has no options"),
        (
            AttentionConfig(kind="residual", options={"heads": 1}),
            "attention.options.heads: not an option of kind residual, which has none",
        ),
        (
            AttentionConfig(kind="multihead", options={"head": 1}),
            "attention.options.head: not an option of kind multihead, which has .*heads",
        ),
        (
            AttentionConfig(kind="multihead", options={"heads": "many"}),
            "^attention.options.heads many: expected an integer",
        ),
        (
            AttentionConfig(kind="ge", options={"extent": 3}),
            "^attention.options.extent 3: expected one of 2, 4, 8, global$",
        ),
        (AttentionConfig(kind="no_such_module.Kind"), "cannot be imported"),
        (AttentionConfig(kind="tests.helpers.own_attention.GateOptions"), "expected a subclass"),
        (
            AttentionConfig(kind="broken_kinds.Kind"),
            "broken_kinds.Kind: cannot be imported: SyntaxError: ",
        ),
        (
            AttentionConfig(kind="odd_kinds.Plain"),
            "odd_kinds.Plain: expected a dataclass as its Options",
        ),
        (AttentionConfig(kind="odd_kinds.Even", options={"n": 3}), "^attention.options {'n': 3}: n must be even$"),
        (AttentionConfig(kind="odd_kinds.Even", options={"n": "x"}), "^attention.options.n x: expected an integer$"),
    ],
)
def test_wrong_kinds_and_options_are_named(spec, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_kinds.py").write_text("class Kind(:")
    (tmp_path / "odd_kinds.py").write_text(ODD_KINDS)
    with pytest.raises(ConfigError, match=message):
        resolve(spec)
