"""Every kind against its equations in float64, with its gradients, parameter counts and initial state."""

import pytest
import torch

from sagan.attention import KINDS
from sagan.attention.sagan import control_widths
from tests.helpers.attention_kinds import CASES, build, images, open_gate
from tests.helpers.attention_references import REFERENCES, Parameters

EXACT = [case for case in CASES if case.exact]
WITH_AND_WITHOUT_NORM = [(case, bn) for case in EXACT for bn in ((True, False) if case.has_norm else (False,))]


def test_every_kind_is_in_the_list():
    assert {case.kind for case in CASES} | {"none"} == set(KINDS)
    assert {case.kind for case in CASES} == set(REFERENCES)


@pytest.mark.parametrize("case, batch_norm", WITH_AND_WITHOUT_NORM, ids=str)
def test_output_is_that_of_the_equations(case, batch_norm):
    layer = open_gate(build(case.kind, case.options, size=case.size, batch_norm=batch_norm).double().eval())
    x = images(size=case.size, dtype=torch.float64)
    t = REFERENCES[case.kind](Parameters(layer), x, case.options)
    expected = x + 0.7 * (t - x if layer.rewrites else t)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def test_error_of_bf16_queries():
    """The error agrees with the help of the option."""
    layers = [open_gate(build("sagan", {"precision": p}), 1.0) for p in ("float32", "bf16")]
    x = images()
    exact, rounded = (layer(x) for layer in layers)
    assert 0 < (rounded - exact).abs().max() < 2e-2


@pytest.mark.parametrize("case", CASES, ids=str)
def test_number_of_parameters(case):
    for channels in (32, 64, 128):
        for batch_norm in (True, False):
            for spectral_norm in (True, False):
                layer = build(
                    case.kind, case.options, channels=channels, batch_norm=batch_norm, spectral_norm=spectral_norm
                )
                assert sum(p.numel() for p in layer.parameters()) == case.parameters(channels, 8, 12, batch_norm)


def test_control_has_as_many_parameters_as_the_attention_it_controls():
    for channels in range(32, 1025, 8):
        a, b = control_widths(channels)
        assert abs(channels * (a + b) + 9 * a * b - 1.25 * channels**2) <= 0.02 * 1.25 * channels**2


# Non-local blocks as published have biases and, in a generator, batch norm.
PUBLISHED = [("gaussian", 1, 3.5), ("embedded-gaussian", 2, 4.5), ("dot-product", 2, 4.5), ("concatenation", 2, 5.5)]


@pytest.mark.parametrize("form, squares, widths", PUBLISHED)
def test_number_of_parameters_of_published_non_local_blocks(form, squares, widths):
    for channels in (32, 64, 128):
        layer = build("non-local", {"form": form}, channels=channels, gate="none")
        assert sum(p.numel() for p in layer.parameters()) == squares * channels**2 + widths * channels


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_gradients(case):
    """Compare with finite differences, along one random direction for the input and for each parameter."""
    layer = open_gate(build(case.kind, case.options, size=case.size).double())
    x = images(size=case.size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    names, tensors = zip(("x", x), *layer.named_parameters(), strict=True)
    directions = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]
    readout = torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def moved_by(*amounts: torch.Tensor) -> torch.Tensor:
        moved = {n: t.detach() + a * d for n, t, a, d in zip(names, tensors, amounts, directions, strict=True)}
        return (torch.func.functional_call(layer, moved, moved.pop("x")) * readout).sum()

    start = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in names]
    assert torch.autograd.gradcheck(moved_by, start, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_identity_at_the_start(case):
    """The layer is exactly the identity, and gamma has a gradient that ends this."""
    layer, x = build(case.kind, case.options, spectral_norm=True), images()
    y = layer(x)
    assert torch.equal(y, x)
    (y - torch.sin(x)).square().sum().backward()
    assert layer.gamma.grad.abs() > 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_parameter_learns(case):
    layer = open_gate(build(case.kind, case.options, spectral_norm=True))
    layer(images()).sin().sum().backward()
    still = [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Adding a constant to every key, or logit, does not change a softmax.
    assert set(still) <= ({"key.bias"} if case.kind in ("sagan", "multihead") else set())


@pytest.mark.parametrize("batch_norm", [True, False])
def test_published_forms_that_start_at_the_identity(batch_norm):
    for kind in ("sagan", "non-local", "global-context"):
        for spectral_norm in (True, False):
            layer, x = build(kind, gate="none", batch_norm=batch_norm, spectral_norm=spectral_norm), images()
            assert torch.equal(layer(x), x)
