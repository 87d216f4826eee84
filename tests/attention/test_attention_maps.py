"""The maps that a viewer gets: they explain the output, and none is made without a viewer."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sagan.attention import AttentionMap, capture_maps
from tests.helpers.attention_kinds import CASES, build, images, open_gate


def weighted(m: AttentionMap, value: Tensor) -> Tensor:
    """Sum values by the rows of a matrix, one row per query position: (N, V, H', W') -> (N, V, H, W)."""
    heads = value.unflatten(1, (m.weights.shape[1], -1)).flatten(3)  # (N, heads, d, keys)
    return torch.einsum("nhqk,nhdk->nhdq", m.weights.to(value.dtype), heads).flatten(1, 2).unflatten(2, m.query_size)


def weighted_in_windows(m: AttentionMap, value: Tensor) -> Tensor:
    (height, width), out = m.key_size, torch.zeros_like(value)
    columns = m.query_size[1] // width
    for index in range(m.weights.shape[1]):
        window = (
            ...,
            slice(index // columns * height, (index // columns + 1) * height),
            slice(index % columns * width, (index % columns + 1) * width),
        )
        one = AttentionMap("matrix", m.weights[:, index : index + 1], m.key_size, m.key_size)
        out[window] = weighted(one, value[window])
    return out


def context(block, m: AttentionMap, x: Tensor) -> Tensor:
    value = block.value(F.max_pool2d(x, 2) if block.pool else x)
    o = block.out((weighted if m.kind == "matrix" else weighted_in_windows)(m, value))
    return F.interpolate(o, x.shape[2:], mode="bilinear", align_corners=True) if block.pool else o


def transform_by_maps(kind: str, layer, x: Tensor, maps: list[AttentionMap]) -> Tensor:
    """Return T(x) with the captured maps instead of attention, between the layer's own convolutions."""
    if kind in ("sagan", "additive"):
        value = layer.value(x)
        return layer.out(weighted(maps[0], F.max_pool2d(value, 2) if layer.pooled else value))
    if kind == "multihead":
        x = x + layer.table if hasattr(layer, "table") else x
        return layer.out(weighted(maps[0], layer.pool(layer.value(x))))
    if kind == "non-local":
        return layer.norm(layer.out(weighted(maps[0], layer.project(x)[2])))
    if kind == "base-oc":
        return layer.fuse(torch.cat([context(layer.context, maps[0], x), x], dim=1))
    if kind == "pyramid-oc":
        levels = [context(block, m, x) for block, m in zip(layer.contexts, maps, strict=True)]
        return layer.fuse(torch.cat([layer.widen(x), *levels], dim=1))
    if kind == "asp-oc":
        h = layer.after(context(layer.context, maps[0], layer.before(x)))
        return layer.fuse(torch.cat([h, layer.point(x), *(conv(x) for conv in layer.atrous)], dim=1))
    if kind == "global-context":
        z = weighted(maps[0], x)[:, :, 0, 0]
        return layer.excite(F.relu(layer.norm(layer.squeeze(z))))[:, :, None, None]
    if kind == "residual-attention":
        a = layer.before(x)
        return layer.after((1 + maps[0].weights) * layer.trunk(a))
    for m in maps:  # gates in sequence
        gate = m.weights[:, :, None, None] if m.kind == "channel gate" else m.weights
        x = x * F.interpolate(gate, x.shape[2:], mode="nearest")
    return x


MAPPED = [case for case in CASES if case.maps]


@pytest.mark.parametrize("case", MAPPED, ids=str)
def test_maps_reproduce_the_output(case):
    layer = open_gate(build(case.kind, case.options, spectral_norm=True).double().eval())
    x = images(dtype=torch.float64)
    with capture_maps(layer) as captured:
        y = layer(x)
    maps = captured[""]
    assert tuple(m.kind for m in maps) == case.maps
    assert not any(m.weights.requires_grad for m in maps)
    t = transform_by_maps(case.kind, layer, x, maps)
    tolerance = 1e-10 if case.exact else 3e-2
    torch.testing.assert_close(y, x + 0.7 * (t - x if layer.rewrites else t), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", MAPPED, ids=str)
def test_rows_of_distributions_sum_to_one(case):
    layer = open_gate(build(case.kind, case.options))
    with capture_maps(layer) as captured:
        layer(images())
    for m in captured[""]:
        if not m.distribution:
            assert m.entropy() is None
            continue
        assert (m.weights >= 0).all()
        torch.testing.assert_close(m.weights.sum(-1), torch.ones(m.weights.shape[:-1]))
        assert 0 < m.entropy() < 1
        if m.kind == "matrix":
            assert m.weights.shape[2:] == (m.query_size[0] * m.query_size[1], m.key_size[0] * m.key_size[1])


def test_entropy_of_known_maps():
    uniform = AttentionMap("matrix", torch.full((2, 1, 4, 16), 1 / 16), (2, 2), (4, 4), distribution=True)
    one_key = AttentionMap("matrix", torch.eye(4).expand(2, 1, 4, 4), (2, 2), (2, 2), distribution=True)
    halves = AttentionMap(
        "matrix", torch.tensor([0.5, 0.5, 0, 0]).expand(1, 1, 4, 4), (2, 2), (2, 2), distribution=True
    )
    assert uniform.entropy().item() == pytest.approx(1)
    assert one_key.entropy().item() == 0
    assert halves.entropy().item() == pytest.approx(0.5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_capturing_maps_changes_nothing(case):
    """The output and the running statistics equal those of a pass without a viewer."""
    layers = [open_gate(build(case.kind, case.options)) for _ in range(2)]
    unwatched = layers[0](images())
    with capture_maps(layers[1]):
        watched = layers[1](images())
    assert torch.equal(unwatched, watched)
    for a, b in zip(layers[0].buffers(), layers[1].buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_map_is_made_without_a_viewer(case, monkeypatch):
    layer, x = build(case.kind, case.options), images()
    with capture_maps(layer):
        pass

    def fail(*args, **kwargs):
        raise AssertionError("a map was made")

    monkeypatch.setattr(AttentionMap, "__init__", fail)
    layer(x)


def test_only_the_last_pass_is_kept():
    layer = open_gate(build("cbam"))
    with capture_maps(layer) as maps:
        layer(images())
        layer(2 * images())
    with capture_maps(layer) as last:
        layer(2 * images())
    assert len(maps[""]) == 2
    assert torch.equal(maps[""][1].weights, last[""][1].weights)


def test_a_failed_pass_leaves_no_viewer():
    layer = build("se")
    with pytest.raises(RuntimeError), capture_maps(layer):
        raise RuntimeError
    assert layer.viewer is None
