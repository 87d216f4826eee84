"""Networks rebuilt from a file alone."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sagan import load_generator
from sagan.config import ConfigError, UserError
from sagan.layers import BatchNorm
from sagan.models.image_sampler import image_sampler, set_standing_statistics
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.runs.directory import run_directory
from sagan.runs.networks import load_discriminator
from sagan.runs.saved_networks import load_run_config
from sagan.runtime.draws import labels, latents
from sagan.sharing.weights import export
from tests.helpers.tiny_runs import train_run, untrained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return train_run(tmp_path_factory.mktemp("generate") / "run", image_folder, **{"training.ema_decay": 0.5})


def same(network, weights):
    state = network.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in weights)


def test_the_moving_average_is_the_default(run):
    content = load_checkpoint(find_checkpoint(run))
    averaged, plain = load_generator(run), load_generator(run, ema=False)
    assert averaged.origin.averaged and not plain.origin.averaged
    assert same(averaged, content["generator_ema"]) and same(plain, content["generator"])
    assert not same(averaged, content["generator"])
    assert (averaged.origin.step, averaged.origin.config.data.num_classes) == (2, 3)
    assert not averaged.training and not any(p.requires_grad for p in averaged.parameters())


def test_a_run_without_a_moving_average_gives_its_own_weights(tmp_path):
    generator = load_generator(untrained_run(tmp_path / "run", **{"training.ema_decay": 0}))
    assert not generator.origin.averaged


def test_a_checkpoint_can_be_named(run, tmp_path):
    file = find_checkpoint(run)
    weights = load_generator(run).state_dict()
    for arguments in ((file,), (run, file.name), (run, str(file))):
        path, *which = arguments
        assert same(load_generator(path, checkpoint=which[0] if which else None), weights)


def test_exported_weights_rebuild_the_same_generator(run, tmp_path):
    files = export(run, tmp_path / "weights")
    assert [file.name for file in files] == ["generator.safetensors", "discriminator.safetensors"]
    generator, original = load_generator(files[0]), load_generator(run)
    assert same(generator, original.state_dict())
    assert generator.origin == original.origin and (generator.origin.step, generator.origin.averaged) == (2, True)
    with safe_open(files[1], "pt") as file:
        about = json.loads(file.metadata()["sagan"])
    assert about == {
        "config": asdict(original.origin.config),
        "step": 2,
        "class_names": ["a", "b", "c"],
        "weights": "discriminator",
    }
    assert load_file(files[1]).keys() == load_checkpoint(find_checkpoint(run))["discriminator"].keys()


def test_what_an_export_does_not_hold_is_refused(run, tmp_path):
    generator, discriminator = export(run, tmp_path)
    with pytest.raises(ConfigError, match="holds the moving average only"):
        load_generator(generator, ema=False)
    with pytest.raises(ConfigError, match="checkpoint best"):
        load_generator(generator, checkpoint="best")
    with pytest.raises(UserError, match="weights of a discriminator"):
        load_generator(discriminator)


def test_the_discriminator_of_a_run_or_next_to_an_exported_generator(run, tmp_path):
    content = load_checkpoint(find_checkpoint(run))
    generator, _ = export(run, tmp_path)
    for path in (run, find_checkpoint(run), generator):
        discriminator = load_discriminator(path)
        assert same(discriminator, content["discriminator"])
        assert not discriminator.training and not any(p.requires_grad for p in discriminator.parameters())
        assert load_run_config(path) == load_generator(path).origin.config
    with pytest.raises(ConfigError, match="checkpoint best"):
        load_discriminator(generator, checkpoint="best")
    torch.save({k: v for k, v in content.items() if k != "discriminator"}, tmp_path / "half.pt")
    with pytest.raises(UserError, match="half.pt: holds no discriminator"):
        load_discriminator(tmp_path / "half.pt")
    (tmp_path / "discriminator.safetensors").write_bytes(generator.read_bytes())
    with pytest.raises(UserError, match="holds the weights of a generator_ema, expected a discriminator"):
        load_discriminator(generator)


def test_files_with_other_content_are_named(run, tmp_path):
    file, _ = export(run, tmp_path)
    weights = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    weights["to_image.bias"] = torch.zeros(7)
    save_file(weights, file, metadata)
    with pytest.raises(UserError, match="generator.safetensors: the weights do not fit the configuration: .*to_image"):
        load_generator(file)
    for wrong in (None, {}, {"sagan": "3"}, {"sagan": "{"}, {"sagan": '{"config": null, "step": 0, "weights": ""}'}):
        save_file(weights, file, wrong)
        with pytest.raises(UserError, match="generator.safetensors: cannot be read as exported weights"):
            load_generator(file)


def test_a_damaged_configuration_in_a_checkpoint_is_named_with_its_option(run, tmp_path):
    content = load_checkpoint(find_checkpoint(run))
    content["config"]["model"]["generator"]["channels"] = -8
    torch.save(content, tmp_path / "odd.pt")
    words = "odd.pt: the configuration in it is damaged: model.generator.channels -8: expected a number above 0"
    for load in (load_generator, load_discriminator, load_run_config):
        with pytest.raises(UserError, match=words):
            load(tmp_path / "odd.pt")


def test_run_directory(run, tmp_path):
    assert str(run_directory(run)) == run
    assert str(run_directory(find_checkpoint(run))) == run
    assert run_directory(tmp_path / "generator.safetensors") is None
    assert run_directory("step-00000002.pt") is None


def test_images_are_functions_of_seed_and_index(run):
    generator = load_generator(run)
    y = labels(0, "any", 0, 7, 3)
    draw = image_sampler(generator, seed=5)
    whole = draw(0, 7, y).int()
    parts = torch.cat([draw(0, 3, y[:3]), draw(3, 4, y[3:4]), draw(4, 7, y[4:])]).int()
    assert (whole - parts).abs().max() <= 1
    other = image_sampler(generator, seed=6)(0, 7, y).int()
    assert (whole - other).abs().max() > 1


def test_standing_statistics_are_the_mean_over_fresh_batches(run):
    generator = load_generator(run)
    norm = next(m for m in generator.modules() if isinstance(m, BatchNorm))
    momentum, before = norm.momentum, norm.running_mean.clone()
    means, variances = [], []

    def keep(layer, inputs):
        means.append(inputs[0].mean((0, 2, 3)))
        variances.append(inputs[0].transpose(0, 1).flatten(1).var(1))

    handle = norm.register_forward_pre_hook(keep)
    set_standing_statistics(generator, batches=3, batch_size=4, seed=1)
    handle.remove()
    assert len(means) == 3
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))
    assert not torch.allclose(norm.running_mean, before)
    assert norm.momentum == momentum and not generator.training


def test_truncation_bounds_z(run, monkeypatch):
    generator = load_generator(run)
    cut = latents(0, "sample", 0, 4, generator.z_dim, 0.5)
    assert cut.abs().max() <= 0.5 < latents(0, "sample", 0, 4, generator.z_dim).abs().max()
    y = torch.zeros(4, dtype=torch.long)
    seen = []
    monkeypatch.setattr(generator, "forward", lambda z, y: seen.append(z) or torch.zeros(len(z), 3, 32, 32))
    image_sampler(generator, 0, truncation=0.5)(0, 4, y)
    assert torch.equal(seen[0], cut)
