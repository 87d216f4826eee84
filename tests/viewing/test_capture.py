"""The maps of both networks, for generated and real images."""

from dataclasses import replace

import pytest
import torch

from sagan.attention import attention_layers, capture_maps
from sagan.data.dataset import MemoryDataset
from sagan.models.build import build_discriminator, build_generator
from sagan.runtime.pictures import to_uint8
from sagan.viewing.ablated import difference, images_without
from sagan.viewing.capture import fixed_inputs, fixed_labels, fixed_real, view_attention

OVERRIDES = [
    "model.generator.attention.resolutions=[8,16]",
    "model.generator.channels=8",
    "model.discriminator.attention.kind=cbam",
    "model.discriminator.attention.resolutions=[16]",
    "model.discriminator.channels=8",
]


def networks(config):
    generator, discriminator = build_generator(config), build_discriminator(config)
    with torch.no_grad():
        for module in discriminator.modules():
            if getattr(module, "gamma", None) is not None:
                module.gamma.fill_(0.25)
    return generator, discriminator


def draws(n=3):
    random = torch.Generator().manual_seed(0)
    return torch.randn(n, 8, generator=random), torch.arange(n), torch.rand(2, 3, 32, 32, generator=random) * 2 - 1


def test_views_are_those_of_a_plain_pass(make_config):
    generator, discriminator = networks(make_config(*OVERRIDES))
    z, y, real = draws()
    views = view_attention(generator, discriminator, z, y, real, torch.tensor([2, 0]))
    assert [(v.network, v.layer, v.source) for v in views] == [
        ("generator", "blocks.0.attention", "generated"),
        ("generator", "blocks.1.attention", "generated"),
        ("discriminator", "blocks.0.attention", "generated"),
        ("discriminator", "blocks.0.attention", "real"),
    ]
    generator.eval(), discriminator.eval()
    with torch.no_grad(), capture_maps(generator) as of_g, capture_maps(discriminator) as of_d:
        images = generator(z, y)
        discriminator(real, torch.tensor([2, 0]))
    assert torch.equal(views[0].images, to_uint8(images)) and torch.equal(views[3].images, to_uint8(real))
    for view in views[:2]:
        assert torch.equal(view.maps[0].weights, of_g[view.layer][0].weights)
    assert [m.kind for m in views[3].maps] == ["channel gate", "spatial gate"]
    for ours, theirs in zip(views[3].maps, of_d["blocks.0.attention"], strict=True):
        assert torch.equal(ours.weights, theirs.weights)
    assert [v.gamma for v in views] == [0, 0, 0.25, 0.25]
    assert views[3].labels.tolist() == [2, 0] and views[0].labels.tolist() == [0, 1, 2]


def test_the_change_is_what_the_layer_adds_over_its_input(make_config):
    """By another route: hooks of our own note what goes into the layer and what comes out of it."""
    generator, discriminator = networks(make_config(*OVERRIDES))
    z, y, real = draws()
    seen = {}
    layers = {"blocks.0.attention": discriminator.get_submodule("blocks.0.attention")}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        layer.register_forward_hook(lambda m, _, out, name=name: seen.update({name: (seen[name], out)}))
    views = view_attention(generator, discriminator, z, y, real, torch.tensor([2, 0]), ["ant", "bee", "cow"])
    x, out = seen["blocks.0.attention"]  # of the last pass, over real images
    for i, change in enumerate(views[-1].change.tolist()):
        assert change == pytest.approx((out[i] - x[i]).double().norm().item() / x[i].double().norm().item(), rel=1e-4)
        assert change > 0
    assert views[0].change.tolist() == [0, 0, 0]  # gamma is 0: the identity
    assert [views[-1].class_of(i) for i in range(2)] == ["cow", "ant"]
    assert replace(views[-1], class_names=()).class_of(0) == "class 2"


def test_looking_changes_nothing(make_config):
    generator, discriminator = networks(make_config(*OVERRIDES))
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in (("g", generator), ("d", discriminator))}
    z, y, real = draws()
    view_attention(generator, discriminator, z, y, real, torch.tensor([2, 0]))
    assert generator.training and discriminator.training
    for name, network in (("g", generator), ("d", discriminator)):
        assert all(torch.equal(before[name][k], v) for k, v in network.state_dict().items())


def test_fixed_inputs_are_the_same_for_every_run(make_config):
    first = build_generator(make_config("training.seed=1"))
    second = build_generator(make_config("training.seed=2", "model.generator.channels=8"))
    (z, y), (again, y_again) = fixed_inputs(first, 4), fixed_inputs(second, 4)
    assert torch.equal(z, again) and torch.equal(y, y_again) and z.shape == (4, 8)
    assert y.tolist() == [0, 1, 2, 0]
    assert fixed_labels(10, 4).tolist() == [0, 2, 5, 7]
    assert fixed_inputs(build_generator(make_config("data.num_classes=0")), 4)[1] is None


def test_fixed_real_images_are_one_of_each_class_in_turn():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2) * 51
    data = MemoryDataset(images.contiguous(), torch.tensor([1, 1, 1, 2, 2, 1]), ["empty", "b", "c"], "test")
    real, labels = fixed_real(data, 3)
    assert labels.tolist() == [1, 2, 1] and real.shape == (3, 3, 2, 2)
    torch.testing.assert_close(real[:, 0, 0, 0], torch.tensor([-1, 0.2, -0.6]))
    assert len(fixed_real(data, 100)[0]) == 6


def test_images_without_a_layer_are_those_of_gamma_0(make_config):
    """By another route: the same generator with gamma set to 0."""
    generator, _ = networks(make_config(*OVERRIDES))
    layers = attention_layers(generator)
    for layer in layers.values():
        layer.gamma.data.fill_(3.0)
    z, y, _ = draws()
    views = view_attention(generator, None, z, y)
    with torch.no_grad():
        for view in views:
            layers[view.layer].gamma.zero_()
            assert torch.equal(view.without, to_uint8(generator.eval()(z, y)))
            assert not torch.equal(view.without, view.images)
            layers[view.layer].gamma.fill_(3.0)
        for layer in layers.values():
            layer.gamma.zero_()
        expected = to_uint8(generator(z, y))
        for layer in layers.values():
            layer.gamma.fill_(3.0)
    assert torch.equal(images_without(generator, z, y, "all"), expected)
    assert torch.equal(view_attention(generator, None, z, y)[0].images, views[0].images)  # nothing stays turned off
    assert torch.equal(difference(views[0].images, views[0].images), torch.zeros(3, 32, 32))
