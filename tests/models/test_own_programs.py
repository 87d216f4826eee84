"""The networks in programs of one's own: other losses, dtypes, files and modes than those of this package."""

import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import sagan
from sagan import build_discriminator, build_generator
from sagan.attention import AttentionMap, attention_layers, without_layers
from sagan.config import ConfigError
from sagan.layers import BatchNorm, Conv2d, Linear, Spectral, Weights, spectral_weights
from sagan.viewing.capture import fixed_inputs, view_attention


class Products(nn.Module):
    """Layers whose weights are used in other ways than by calling them."""

    def __init__(self):
        super().__init__()
        self.conv = Conv2d(6, 4, 1, spectral_norm=True)
        self.linear = Linear(6, 4, spectral_norm=True)

    def forward(self, x):
        kernel, weight = self.conv.normalized_weight().flatten(1), self.linear.normalized_weight()
        mixed = torch.einsum("nchw,oc->nohw", x, kernel) + torch.einsum("nchw,oc->nohw", x, weight)
        return mixed.square().mean() + (x.mean((2, 3)) @ weight.T).square().sum()


def gradients(network, loss):
    found = torch.autograd.grad(loss, [*network.parameters()], allow_unused=True, materialize_grads=True)
    return {name: value for (name, _), value in zip(network.named_parameters(), found, strict=True)}


def assert_gradients_agree(network, loss):
    """Check that prepared weights have the gradients of those that each pass prepares."""
    expected = gradients(network, loss())
    with Weights(network).prepared(torch.float32, power_iteration=False):
        found = gradients(network, loss())
    assert any(value.abs().max() > 0 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_weights_may_be_multiplied_in_any_order():
    torch.manual_seed(0)
    network, x = Products(), torch.randn(2, 6, 3, 5)
    for layer in (network.conv, network.linear):
        nn.init.normal_(layer.weight)
    Spectral(spectral_weights(network).values()).iterate()
    assert_gradients_agree(network, lambda: network(x))


def test_a_gradient_penalty_of_the_discriminator(make_config):
    """With fused attention there is no second derivative; the page of training says how to do without."""
    discriminator = build_discriminator(make_config("model.discriminator.attention.resolutions=[16]"))
    for layer in attention_layers(discriminator).values():
        nn.init.constant_(layer.gamma, 0.5)
    images, y = torch.randn(2, 3, 32, 32, requires_grad=True), torch.tensor([0, 1])

    def penalty():
        with sdpa_kernel(SDPBackend.MATH):
            (slope,) = torch.autograd.grad(discriminator(images, y).sum(), images, create_graph=True)
            return slope.square().sum()

    assert_gradients_agree(discriminator, penalty)


def exchange_data(network):
    """Give each weight other memory with the same layout, as programs do that swap in averaged weights."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


@pytest.mark.parametrize(
    "convert",
    [
        lambda network: network.double().float(),
        lambda network: network.to(memory_format=torch.contiguous_format),
        exchange_data,
    ],
    ids=["dtype", "memory format", "data"],
)
def test_power_iterations_follow_a_network_that_is_converted(make_config, convert):
    network = build_discriminator(make_config())
    for layer in spectral_weights(network).values():
        nn.init.normal_(layer.weight)
    spectral = Spectral(spectral_weights(network).values())
    convert(network)
    with torch.no_grad():
        for layer in spectral.layers:
            layer.weight.mul_(3)
    for _ in range(100):
        spectral.iterate()
    for layer, sigma in zip(spectral.layers, spectral.vectors().sigma, strict=True):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1).detach(), 2)
        assert layer.sigma().item() == pytest.approx(float(largest), rel=1e-2)
        assert sigma.item() == pytest.approx(float(largest), rel=1e-2)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_a_network_can_be_saved_as_a_whole(make_config, build):
    network, buffer = build(make_config()), io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    for copy in (torch.load(buffer, weights_only=False), pickle.loads(pickle.dumps(network, 2))):
        assert copy.memory_format == torch.channels_last
        assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_converted_networks_compute_in_their_dtype(make_config, dtype, most):
    config = make_config("model.generator.channels=8")
    generator, discriminator = build_generator(config).eval(), build_discriminator(config).eval()
    z, y = torch.randn(3, generator.z_dim), torch.tensor([0, 1, 2])
    images = generator(z, y)
    logits = discriminator(images, y)
    generator.to(dtype), discriminator.to(dtype)
    found = generator(z.to(dtype), y)
    judged = discriminator(images.to(dtype), y)
    assert found.dtype == judged.dtype == dtype
    torch.testing.assert_close(found.float(), images, rtol=most, atol=most)
    torch.testing.assert_close(judged.float(), logits, rtol=most, atol=most)
    assert generator.sample(2).dtype == torch.uint8


def test_derivatives_of_a_network_in_double_precision(make_config):
    discriminator = build_discriminator(make_config("model.discriminator.attention.kind=none")).double()
    images, y = torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([0])

    def of_two_pixels(two):
        top = torch.cat([two, images[..., :1, 2:]], 3)
        return discriminator(torch.cat([top, images[..., 1:, :]], 2), y)

    assert torch.autograd.gradcheck(of_two_pixels, (images[..., :1, :2].clone().requires_grad_(),))


def test_modes_and_ablations_of_ones_own_are_left_alone(make_config):
    generator = build_generator(make_config("model.generator.attention.resolutions=[8,16]")).train()
    norms = [module.eval() for module in generator.modules() if isinstance(module, BatchNorm)]
    layers = attention_layers(generator)
    layers["blocks.0.attention"].bypassed = True
    generator.sample(2)
    view_attention(generator, None, *fixed_inputs(generator, 2))
    with without_layers(generator, "all") as names:
        assert names == [*layers] and all(layer.bypassed for layer in layers.values())
    assert generator.training and not any(norm.training for norm in norms)
    assert [layer.bypassed for layer in layers.values()] == [True, False]
    with pytest.raises(ConfigError, match="^layer blocks.7: expected all, or one of"):
        without_layers(generator, "blocks.7").__enter__()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": -1}, "n -1: expected an integer, 0 or more"),
        ({"n": 2.5}, "n 2.5: expected an integer"),
        ({"n": 2, "batch_size": 0}, "batch_size 0: expected an integer, 1 or more"),
        ({"n": 2, "seed": 1.0}, "seed 1.0: expected an integer"),
        ({"n": 2, "seed": True}, "seed True: expected an integer"),
        ({"n": 2, "classes": torch.tensor([True, False])}, "classes True: the generator has 3 classes"),
    ],
)
def test_a_wrong_number_is_named(make_config, options, words):
    with pytest.raises(ValueError, match=words):
        build_generator(make_config()).sample(**options)


def test_numbers_of_numpy_and_torch_are_numbers(make_config):
    generator = build_generator(make_config())
    expected = generator.sample(3, classes=[2], seed=4)
    for two in (np.array(2), np.int64(2), torch.tensor(2), torch.tensor([2]), np.array([2])):
        assert torch.equal(generator.sample(np.int64(3), classes=two, seed=torch.tensor(4)), expected)
    z, mixed = torch.randn(1, generator.z_dim), torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(generator.eval()(z, mixed.double()), generator(z, mixed))
    with pytest.raises(ValueError, match="y is torch.bool, expected int64 labels or float weights"):
        generator(z, torch.tensor([True]))


def test_a_figure_of_a_generator_in_memory(make_config):
    generator = build_generator(make_config())
    assert sagan.attention_figure(generator, num=1).size[0] > 100
    for wrong, words in (({"network": "discriminator"}, "expected generator"), ({"network": "disc"}, "network disc")):
        with pytest.raises(ConfigError, match=words):
            sagan.attention_figure(generator, **wrong)
    with pytest.raises(ValueError, match="num 0: expected an integer, 1 or more"):
        sagan.attention_figure(generator, num=0)


@pytest.mark.parametrize(
    ("kind", "shape", "sizes", "words"),
    [
        ("heat", (2, 4), [(2, 2)], "'heat': expected one of matrix, windowed matrix, channel gate"),
        ("spatial gate", (2, 4, 4), [(4, 4)], r"shape \(2, 4, 4\), expected \(N, 1, H, W\)"),
        ("matrix", (2, 1, 16, 4), [(4, 4)], r"expected \(N, heads, 16, 0\) for query_size \(4, 4\), no key_size"),
        (
            "matrix",
            (2, 1, 16, 5),
            [(4, 4), (2, 2)],
            r"expected \(N, heads, 16, 4\) for query_size \(4, 4\) and key_size",
        ),
        ("windowed matrix", (2, 3, 4, 4), [(4, 4), (2, 2)], r"expected \(N, 4, 4, 4\)"),
    ],
)
def test_a_map_that_does_not_fit_its_kind_is_an_error_with_both_shapes(kind, shape, sizes, words):
    with pytest.raises(ValueError, match=words):
        AttentionMap(kind, torch.zeros(shape), *sizes)


def test_the_names_of_the_package_can_be_completed():
    assert {"train", "sample", "load_generator", "Callback"} <= set(dir(sagan))
