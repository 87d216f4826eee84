"""Properties of every kind: symmetry, precision, layout, memory."""

import pytest
import torch

from sagan.attention import Attention, Place
from sagan.attention.functional import from_tokens, from_window_tokens, tokens, window_tokens
from sagan.layers import SpectralWeight
from tests.helpers.attention_kinds import CASES, build, images, open_gate

# Kinds that ignore position: permuting the input permutes the output. For all others it must not.
POSITION_FREE = {
    "sagan-variant=paper",
    "sagan-variant=v1",
    "multihead",
    "additive-pool=False-bias=True",
    "non-local-scale=False-subsample=none",
    "base-oc",
    "se",
    "se-reduction=8-bias=False",
    "ge-variant=theta-minus-extent=global",
    "cbam-parts=channel-reduction=8",
    "global-context",
    "eca",
    "eca-kernel_size=7",
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_permuting_pixels(case):
    layer = open_gate(build(case.kind, case.options).double())
    x = images(dtype=torch.float64)
    order = torch.randperm(8 * 12, generator=torch.Generator().manual_seed(4))

    def permuted(t: torch.Tensor) -> torch.Tensor:
        return t.flatten(2)[:, :, order].unflatten(2, t.shape[2:])

    difference = (layer(permuted(x)) - permuted(layer(x))).abs().max()
    if str(case) in POSITION_FREE:
        assert difference < 1e-10
    else:
        assert difference > 1e-3


def test_position_free_kinds_are_in_the_list():
    assert {str(case) for case in CASES} >= POSITION_FREE


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize("gate", ["zero", "none"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bf16_channels_last_and_spectral_norm(case, gate, network):
    """Output and gradients are finite, near those of float32, in the layout and dtype of the input."""
    layer = build(case.kind, case.options, spectral_norm=True, batch_norm=network == "generator", gate=gate)
    layer.to(memory_format=torch.channels_last)
    if layer.gamma is not None:
        torch.nn.init.constant_(layer.gamma, 0.7)
    exact = layer(images())
    x = images(dtype=torch.bfloat16).requires_grad_()
    y = layer(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    y.float().square().sum().backward()
    for tensor in (y, x.grad, *(p.grad for p in layer.parameters())):
        assert tensor.isfinite().all()
    assert (y - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_images_of_a_discriminator_do_not_mix(case):
    layer, x = open_gate(build(case.kind, case.options, batch_norm=False).double()), images(dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_under_spectral_norm_have_norm_one(case):
    """No weight starts at 0, even if the paper says so: 0 / 0 is NaN."""
    layer = build(case.kind, case.options, spectral_norm=True, gate="none")
    for weight in (m for m in layer.modules() if isinstance(m, SpectralWeight) and m.spectral_norm):
        assert torch.linalg.matrix_norm(weight.normalized_weight().flatten(1), 2).item() == pytest.approx(1, abs=0.1)


def saved_elements(layer: torch.nn.Module, x: torch.Tensor) -> int:
    """Return the number of elements saved for the backward pass, with each storage counted once."""
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = layer(x)
    total = sum(storages.values())
    y.sum().backward()
    return total


@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_grows_with_pixels_not_with_their_square(case):
    """Four times the pixels need about four times the memory; a matrix of pairs would need sixteen times.

    The larger map has one more level of a pyramid, and relative positions widen each query by its height and width.
    """
    small, large = (
        saved_elements(build(case.kind, case.options, size=size), images(size=size).requires_grad_())
        for size in ((16, 16), (32, 32))
    )
    assert large < (8 if case.kind in ("pyramid-oc", "multihead") else 4.1) * small


@pytest.mark.parametrize("kind, options", [("additive", {}), ("non-local", {"form": "concatenation"})])
def test_chunks_change_nothing(kind, options, monkeypatch):
    layer, x = open_gate(build(kind, options).double()), images(dtype=torch.float64).requires_grad_()
    whole = torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()])
    monkeypatch.setattr("sagan.attention.functional.CHUNK_ELEMENTS", 1000)
    chunked = torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(whole, chunked)


def test_tokens_and_windows_are_undone():
    x = images(channels=6)
    assert torch.equal(from_tokens(tokens(x, 3), (8, 12)), x)
    assert torch.equal(from_window_tokens(window_tokens(x, 4), 4, (8, 12)), x)
    assert torch.equal(window_tokens(x, 4)[0, 5, 2], x[0, :, 2, 5])  # second row, second column of 2x3 windows


class MeanOnly(Attention):
    """Replaces each channel by its mean, as a value that broadcasts to the map."""

    rewrites = True

    def transform(self, x):
        return x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("gate", ["zero", "none"])
def test_a_result_that_broadcasts_gives_a_whole_map(gate):
    x = torch.randn(2, 4, 3, 5)
    layer = MeanOnly(Place(4, (3, 5), spectral_norm=False, batch_norm=False, gate=gate))
    if layer.gamma is not None:
        torch.nn.init.ones_(layer.gamma)
    expected = x.mean((2, 3), keepdim=True) * torch.ones_like(x)
    torch.testing.assert_close(layer(x), expected)
