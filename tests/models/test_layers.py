"""Spectral normalization and conditional batch norm, compared with torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sagan.layers import BatchNorm, Conv2d, Embedding, Linear, Weights, initialize, spectral_weights

LAYERS = {
    "conv": lambda: Conv2d(6, 8, 3, spectral_norm=True),
    "up": lambda: Conv2d(6, 8, 3, spectral_norm=True, resample="up"),
    "linear": lambda: Linear(10, 7, spectral_norm=True),
    "embedding": lambda: Embedding(5, 12, spectral_norm=True),
}


def made(layer):
    torch.manual_seed(0)
    layer = layer()
    initialize(layer, "xavier")
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_sigma_becomes_the_largest_singular_value(name):
    layer = made(LAYERS[name])
    for _ in range(300):
        Weights(layer).spectral.iterate()
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    torch.testing.assert_close(layer.sigma(), largest, rtol=1e-5, atol=0)
    one = torch.linalg.svdvals(layer.normalized_weight().flatten(1))[0]
    torch.testing.assert_close(one, torch.tensor(1.0), rtol=1e-5, atol=0)


def test_the_gradient_goes_through_sigma_with_the_singular_vectors_held():
    layer = made(LAYERS["linear"]).double()
    direction = torch.randn_like(layer.weight)
    (layer.normalized_weight() * direction).sum().backward()
    u, v, w = layer.u, layer.v, layer.weight.detach()
    sigma = u @ w @ v
    expected = direction / sigma - (direction * w).sum() / sigma**2 * torch.outer(u, v)
    torch.testing.assert_close(layer.weight.grad, expected)


def test_only_the_explicit_call_moves_singular_vectors():
    layer = made(LAYERS["conv"])
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.train()(torch.randn(2, 6, 4, 4)).sum().backward()
    layer.sigma(), layer.normalized_weight()
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    Weights(layer).spectral.iterate()
    assert not torch.equal(layer.u, before["u"]) and not torch.equal(layer.v, before["v"])


def test_one_iteration_is_that_of_miyato_et_al():
    layer = made(LAYERS["conv"])
    w, u = layer.weight.detach().flatten(1), layer.u.clone()
    Weights(layer).spectral.iterate()
    v = w.T @ u / (w.T @ u).norm()
    torch.testing.assert_close(layer.v, v)
    torch.testing.assert_close(layer.u, w @ v / (w @ v).norm())


def test_without_spectral_norm_the_weight_is_used_as_it_is():
    layer = Linear(4, 3, spectral_norm=False)
    initialize(layer, "xavier")
    assert layer.normalized_weight() is layer.weight and not spectral_weights(layer)


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_conditional_batch_norm_is_torchs_batch_norm_and_an_affine_map_per_class(sync, memory_format):
    torch.manual_seed(0)
    ours = BatchNorm(6, num_classes=3, momentum=0.3, eps=1e-3, sync=sync)
    nn.init.normal_(ours.gain.weight), nn.init.normal_(ours.bias.weight)
    theirs = nn.BatchNorm2d(6, momentum=0.3, eps=1e-3, affine=False)
    y = torch.tensor([2, 0, 2, 1, 1])
    for _ in range(3):
        x = (torch.randn(5, 6, 4, 3) * 2 + 1).to(memory_format=memory_format).requires_grad_()
        out, direction = ours(x, y), torch.randn(5, 6, 4, 3)
        normal = theirs(x)
        expected = torch.stack(
            [
                normal[i] * ours.gain.weight[c][:, None, None] + ours.bias.weight[c][:, None, None]
                for i, c in enumerate(y.tolist())
            ]
        )
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        leaves = (x, ours.gain.weight, ours.bias.weight)
        for a, b in zip(*(torch.autograd.grad((o * direction).sum(), leaves) for o in (out, expected)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(2, 6, 4, 3)
    normal = theirs.eval()(x)
    out = ours.eval()(x, torch.tensor([1, 1]))
    torch.testing.assert_close(out, normal * ours.gain.weight[1][:, None, None] + ours.bias.weight[1][:, None, None])


def test_synchronized_norm_survives_large_means():
    means = torch.linspace(1e3, 1e5, 100)  # for some, the mean of squares rounds to less than the square of the mean
    x = means[:, None, None].expand(4, 100, 3, 3).contiguous()
    norm = BatchNorm(100, sync=True)
    initialize(norm, "xavier")
    assert torch.isfinite(norm(x)).all()


def test_synchronized_norm_is_precise_at_large_means():
    torch.manual_seed(0)
    x = (1000 + torch.randn(16, 4, 5, 5, dtype=torch.float64)).requires_grad_()
    expected = F.batch_norm(x, None, None, training=True)
    (expected**3).sum().backward()
    single = x.detach().float().requires_grad_()
    norm = BatchNorm(4, sync=True)
    initialize(norm, "xavier")
    found = norm(single)
    (found**3).sum().backward()
    # float32 represents 1000 + r to 6e-5, so errors of about 1e-4 are unavoidable.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-4)
    torch.testing.assert_close(single.grad.double(), x.grad, rtol=0, atol=3e-3)
    torch.testing.assert_close(
        norm.running_var, torch.full((4,), 0.9) + 0.1 * x.var((0, 2, 3)).float(), rtol=0, atol=1e-4
    )


def test_gains_start_at_one_and_biases_at_zero():
    norm = BatchNorm(4, num_classes=3)
    initialize(norm, "orthogonal")
    x = torch.randn(8, 4, 2, 2)
    torch.testing.assert_close(norm(x, torch.arange(8) % 3), nn.BatchNorm2d(4)(x))


def test_spectral_norm_on_the_tables_is_an_option():
    norm = BatchNorm(8, num_classes=3, spectral_norm=True)
    initialize(norm, "xavier")
    for _ in range(300):
        Weights(norm).spectral.iterate()
    x, y = torch.randn(3, 8, 4, 4), torch.tensor([0, 1, 2])
    gain = norm.gain.weight / torch.linalg.matrix_norm(norm.gain.weight, 2) + 1
    bias = norm.bias.weight / torch.linalg.matrix_norm(norm.bias.weight, 2)
    expected = nn.BatchNorm2d(8, affine=False)(x) * gain[:, :, None, None] + bias[:, :, None, None]
    torch.testing.assert_close(norm(x, y), expected, rtol=1e-3, atol=1e-4)
    assert set(spectral_weights(norm)) == {"gain", "bias"}
    assert not spectral_weights(BatchNorm(8, num_classes=3))


def test_weights_over_classes_mix_the_rows():
    table = made(LAYERS["embedding"])
    halves = torch.zeros(1, 5)
    halves[0, [1, 3]] = 0.5
    torch.testing.assert_close(table(halves), (table(torch.tensor([1])) + table(torch.tensor([3]))) / 2)


def network():
    """Return layers of every sort, in channels_last, some of them without spectral norm."""
    torch.manual_seed(0)
    layers = [make() for make in LAYERS.values()] + [Conv2d(6, 8, 3, spectral_norm=True, resample="down", bias=False)]
    layers += [Conv2d(6, 4, 1, spectral_norm=True, resample="up"), Conv2d(6, 4, 3, spectral_norm=False, resample="up")]
    net = nn.ModuleList(layers).to(memory_format=torch.channels_last)
    initialize(net, "xavier")
    return net


def outputs(net):
    x = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    return [
        net[0](x), net[1](x), net[2](x.flatten(1)[:, :10]), net[3](torch.tensor([3, 0, 3])), *(n(x) for n in net[4:])
    ]  # fmt: skip


def layout(tensor):
    """Return the strides that matter: those of axes longer than 1."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def test_weights_made_ready_for_an_update_are_those_of_each_layer():
    net = network().double()
    expected = torch.cat([o.flatten() for o in outputs(net)])
    of_layers = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    with Weights(net).prepared(torch.float64, power_iteration=False):
        ready = torch.cat([o.flatten() for o in outputs(net)])
        found = torch.autograd.grad(ready.square().sum(), list(net.parameters()))
    torch.testing.assert_close(ready, expected)
    for (name, p), one, other in zip(net.named_parameters(), found, of_layers, strict=True):
        torch.testing.assert_close(one, other, msg=name)
        if not name.startswith("6."):  # the one without spectral norm
            assert layout(one) == layout(p), name
    assert torch.equal(torch.cat([o.flatten() for o in outputs(net)]), expected)  # nothing stays behind


def test_one_iteration_of_all_layers_is_one_of_each():
    alone, together = network(), network()
    for layer in spectral_weights(alone).values():
        w = layer.weight.detach().flatten(1)
        layer.v.copy_(F.normalize(w.T @ layer.u, dim=0))
        layer.u.copy_(F.normalize(w @ layer.v, dim=0))
    with Weights(together).prepared(torch.float32, power_iteration=True):
        for one, other in zip(spectral_weights(alone).values(), spectral_weights(together).values(), strict=True):
            torch.testing.assert_close((other.u, other.v), (one.u, one.v))
            sigma = one.u @ one.weight.detach().flatten(1) @ one.v
            torch.testing.assert_close(other.operands.weight, one.weight / sigma)
