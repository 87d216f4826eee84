"""The two networks as a whole."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sagan import build_discriminator, build_generator, load_config
from sagan.attention import attention_layers
from sagan.layers import BatchNorm, Conv2d, SpectralWeight, spectral_weights
from sagan.models.sizes import DISCRIMINATOR_WIDTHS, GENERATOR_WIDTHS


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("kind", "counts"), [("sagan", (4_386_308, 1_075_586)), ("none", (4_304_387, 1_055_105))])
def test_parameter_counts_of_the_32_model_are_those_of_the_peers(kind, counts):
    config = load_config(
        None,
        [
            "data.num_classes=10",
            "model.generator.channels=64",
            "model.discriminator.channels=64",
            f"model.generator.attention.kind={kind}",
            f"model.discriminator.attention.kind={kind}",
        ],
    )
    assert (parameters(build_generator(config)), parameters(build_discriminator(config))) == counts


@pytest.mark.parametrize("resolution", ["32", "64", "96", "128", "[64,32]", "[16,56]"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_logits_have_the_configured_shapes(make_config, resolution, channels):
    attention = ["model.generator.attention.kind=none", "model.discriminator.attention.kind=none"]
    config = make_config(f"data.resolution={resolution}", f"data.channels={channels}", *attention)
    generator, discriminator = build_generator(config), build_discriminator(config)
    y = torch.tensor([0, 2])
    images = generator(torch.randn(2, 8), y)
    assert images.shape == (2, channels, *config.data.size) and images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert discriminator(images, y).shape == (2,)


def test_a_block_that_keeps_size_and_width_has_an_identity_shortcut(make_config):
    for resolution in (32, 64, 128):
        config = make_config(
            f"data.resolution={resolution}",
            "model.generator.attention.kind=none",
            "model.discriminator.attention.kind=none",
        )
        for block, down in zip(
            build_discriminator(config).blocks,
            [True, True, False, False] if resolution == 32 else [True] * {64: 4, 128: 5}[resolution] + [False],
            strict=True,
        ):
            wide, narrow = block.conv1.weight.shape[:2]
            keeps = not down and wide == narrow
            assert isinstance(block.shortcut, nn.Identity if keeps else Conv2d)
    # At 64 the last block widens (8 -> 16 times the base): it keeps the size, not the width.
    assert isinstance(build_discriminator(make_config("data.resolution=64")).blocks[-1].shortcut, Conv2d)


def test_attention_is_placed_in_each_network_on_its_own(make_config):
    config = make_config(
        "data.resolution=64",
        "model.generator.attention.resolutions=[8,32]",
        "model.discriminator.channels=8",
        "model.discriminator.attention.resolutions=[16]",
    )
    assert list(attention_layers(build_generator(config))) == ["blocks.0.attention", "blocks.2.attention"]
    assert list(attention_layers(build_discriminator(config))) == ["blocks.1.attention"]


@pytest.mark.parametrize("n", GENERATOR_WIDTHS)
def test_every_row_of_the_table_of_sizes_is_a_model(n):
    """Widths and map sizes of all blocks, with attention at 32 (at 16 if no map is larger), from one image each."""
    side, at = 4 * 2**n, 32 if n > 3 else 16
    both = [
        f"model.{network}.{option}"
        for network in ("generator", "discriminator")
        for option in ("channels=8", f"attention.resolutions={at}")
    ]
    config = load_config(None, [f"data.resolution={side}", "data.num_classes=0", *both])
    generator, discriminator = build_generator(config).eval(), build_discriminator(config).eval()
    shapes = {generator: [], discriminator: []}
    for network, seen in shapes.items():
        for block in network.blocks:
            block.register_forward_hook(lambda block, given, out, seen=seen: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        images = generator(torch.randn(1, generator.z_dim))
        assert discriminator(images).shape == (1,)
    assert images.shape == (1, 3, side, side) and images.isfinite().all()

    doubled = [4 * 2**i for i in range(1, n + 1)]
    assert shapes[generator] == [(8 * m, s, s) for m, s in zip(GENERATOR_WIDTHS[n][1], doubled, strict=True)]
    halved = [side // 2**i for i in range(1, n + 1)] if n > 3 else [16, 8, 8]
    halved.append(halved[-1])  # the last block keeps its map
    assert shapes[discriminator] == [(8 * m, s, s) for m, s in zip(DISCRIMINATOR_WIDTHS[n], halved, strict=True)]
    assert halved[-1] == (8 if n == 3 else 4)
    for network, sizes in ((generator, doubled), (discriminator, halved)):
        assert list(attention_layers(network)) == [f"blocks.{sizes.index(at)}.attention"]
        (layer,) = attention_layers(network).values()
        assert layer.place.size == (at, at) and layer.query.weight.shape[1] == shapes[network][sizes.index(at)][0]


def test_no_image_changes_another_ones_logit(make_config):
    discriminator = build_discriminator(make_config())
    discriminator.train()
    images, y = torch.rand(6, 3, 32, 32) * 2 - 1, torch.tensor([0, 1, 2, 0, 1, 2])
    together = discriminator(images, y)
    alone = torch.cat([discriminator(images[i : i + 1], y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    batch_norms = (BatchNorm, nn.modules.batchnorm._NormBase)
    assert not [m for m in discriminator.modules() if isinstance(m, batch_norms)]
    assert not [name for name, _ in discriminator.named_buffers() if "running" in name]


def test_logits_are_the_projection_over_sum_pooled_features(make_config):
    discriminator = build_discriminator(make_config("model.discriminator.attention.kind=none"))
    images, y = torch.rand(2, 3, 32, 32), torch.tensor([2, 0])
    h = images
    for block in discriminator.blocks:
        h = block(h)
    h = torch.relu(h).sum((2, 3))
    embedding = discriminator.embedding.weight / discriminator.embedding.sigma()
    expected = h @ (discriminator.logit.weight / discriminator.logit.sigma()).T + discriminator.logit.bias
    torch.testing.assert_close(discriminator(images, y), expected[:, 0] + (h * embedding[y]).sum(1))


def test_unconditional_networks_take_no_labels(make_config):
    config = make_config("data.num_classes=0")
    generator, discriminator = build_generator(config), build_discriminator(config)
    assert discriminator(generator(torch.randn(2, 8))).shape == (2,)
    assert discriminator.embedding is None
    assert all(len(m.gain.weight) == 1 for m in generator.modules() if isinstance(m, BatchNorm))
    y = torch.tensor([0, 0])
    with pytest.raises(ValueError, match="y is given, but the generator has 0 classes"):
        generator(torch.randn(2, 8), y)
    with pytest.raises(ValueError, match="y is given, but the discriminator has 0 classes"):
        discriminator(torch.rand(2, 3, 32, 32), y)


def test_conditional_networks_require_labels_and_use_them(make_config):
    config = make_config()
    generator, discriminator = build_generator(config).eval(), build_discriminator(config)
    z = torch.randn(1, 8)
    with pytest.raises(ValueError, match="y is missing, but the generator has 3 classes"):
        generator(z)
    with pytest.raises(ValueError, match="y is missing, but the discriminator has 3 classes"):
        discriminator(torch.rand(1, 3, 32, 32))
    nn.init.normal_(generator.blocks[0].norm1.bias.weight)
    nn.init.normal_(generator.blocks[0].norm2.bias.weight)
    assert not torch.allclose(generator(z, torch.tensor([0])), generator(z, torch.tensor([1])))
    images = torch.rand(1, 3, 32, 32)
    assert discriminator(images, torch.tensor([0])) != discriminator(images, torch.tensor([1]))


def test_orthogonal_init(make_config):
    generator = build_generator(make_config("model.generator.init=orthogonal"))
    checked = 0
    for module in generator.modules():
        if isinstance(module, (Conv2d,)):
            w = module.weight.detach().flatten(1)
            w = w if len(w) <= w.shape[1] else w.T
            torch.testing.assert_close(w @ w.T, torch.eye(len(w)), rtol=0, atol=1e-5)
            checked += 1
    assert checked > 8


def test_xavier_init_with_zero_biases(make_config):
    discriminator = build_discriminator(make_config("model.discriminator.channels=16"))
    weight = discriminator.blocks[1].conv1.weight.detach()  # (32, 32, 3, 3)
    bound = (6 / (32 * 9 + 32 * 9)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound
    assert abs(weight.std() / (bound / 3**0.5) - 1) < 0.05
    assert all(not p.any() for name, p in discriminator.named_parameters() if name.endswith("bias"))


def test_spectral_norm_is_on_every_weight_of_both_but_the_conditional_norms(make_config):
    config = make_config()
    for network in (build_generator(config), build_discriminator(config)):
        tables = [t for m in network.modules() if isinstance(m, BatchNorm) for t in (m.gain, m.bias)]
        weights = [m for m in network.modules() if isinstance(m, SpectralWeight) and not any(m is t for t in tables)]
        assert all(m.spectral_norm for m in weights) and not any(t.spectral_norm for t in tables)
    config = make_config("model.generator.spectral_norm=false", "model.discriminator.spectral_norm=false")
    assert not spectral_weights(build_generator(config)) and not spectral_weights(build_discriminator(config))
    config = make_config("model.generator.norm_spectral=true")
    generator = build_generator(config)
    assert "blocks.0.norm1.gain" in spectral_weights(generator) and "norm.gain" not in spectral_weights(generator)
    assert torch.isfinite(generator(torch.randn(2, 8), torch.tensor([0, 1]))).all()


def test_initial_weights_are_a_function_of_the_seed_alone(make_config):
    def weights(*overrides):
        torch.rand(3)  # the global generator must not matter
        return build_generator(make_config(*overrides)).state_dict()

    state = torch.get_rng_state()
    first, again, other = weights(), weights(), weights("training.seed=1")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["project.weight"], other["project.weight"])
    torch.set_rng_state(state)
    weights()
    after = torch.rand(3)
    torch.set_rng_state(state)
    torch.rand(3)
    assert torch.equal(torch.rand(3), after)  # and building leaves it alone


def test_bf16_activations_are_close_to_float32_and_weights_stay(make_config):
    config = make_config()
    generator, discriminator = build_generator(config), build_discriminator(config)
    z, y = torch.randn(4, 8), torch.tensor([0, 1, 2, 0])
    images = generator(z, y)
    logits = discriminator(images, y)
    generator.compute_dtype = discriminator.compute_dtype = torch.bfloat16
    rough = generator(z, y)
    rough_logits = discriminator(images, y)
    assert rough.dtype == rough_logits.dtype == torch.float32
    assert (rough - images).abs().mean() < 0.02
    assert (rough_logits - logits).abs().max() < 0.05 * logits.abs().max().clamp(min=1)
    (rough_logits.sum() + discriminator(rough, y).sum()).backward()
    for p in [*generator.parameters(), *discriminator.parameters()]:
        assert p.dtype == p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all()


def test_names_in_a_checkpoint_stay_as_older_files_have_them(make_config):
    generator, discriminator = (b(make_config()).state_dict() for b in (build_generator, build_discriminator))
    block = [
        "norm1.running_mean",
        "norm1.running_var",
        "norm1.gain.weight",
        "norm1.bias.weight",
        "conv1.weight",
        "conv1.bias",
        "conv1.u",
        "conv1.v",
        "shortcut.weight",
    ]
    attention = ["query.weight", "key.u", "value.v", "out.weight", "gamma"]
    assert {f"blocks.0.{n}" for n in block} | {f"blocks.1.attention.{n}" for n in attention} <= set(generator)
    assert {"project.weight", "project.u", "norm.gain.weight", "to_image.weight"} <= set(generator)
    assert {
        "blocks.0.conv1.weight",
        "blocks.0.attention.gamma",
        "logit.weight",
        "embedding.weight",
        "embedding.u",
    } <= set(discriminator)


def test_threads_that_build_at_once_get_the_weights_of_their_seed():
    config = load_config("quickstart", ["data.num_classes=10"])
    expected = build_generator(config).state_dict()
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: build_generator(config).state_dict(), range(8)))
    for weights in built:
        assert all(torch.equal(weights[name], value) for name, value in expected.items())
