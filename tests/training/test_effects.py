"""Options of training have the effect that they name, and records have the values that they name."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sagan.attention import AttentionMap
from sagan.data import TrainingBatches, open_data
from sagan.layers import BatchNorm
from sagan.models.build import build_discriminator, build_generator
from sagan.runtime.draws import latents
from sagan.training import diagnostics, ema, evaluator, feed
from sagan.training import state as state_module
from sagan.training.inputs import Inputs, draw, step_inputs
from sagan.training.steps import discriminator_step, generator_step, real_images
from sagan.viewing.capture import LayerView
from sagan.viewing.recorder import attention_entropies


def test_the_decay_of_an_update_is_that_of_the_step_that_it_ends(make_state):
    training = make_state("training.ema_decay=0.15", "training.ema_start=2").config.training
    batches = itertools.repeat((None, None, None))
    inputs = itertools.islice(step_inputs(training, 8, 0, batches, step=1), 10)
    decays = [float(i.decay) for i in inputs if i.decay is not None]
    assert decays == pytest.approx([ema.ema_decay(step, 0.15, 2) for step in (2, 3, 4, 5, 6)])


def test_the_average_takes_the_weights_after_the_update(make_state):
    state = make_state()
    before = state.generator_ema.to_image.weight.clone()
    generator_step(state, replace(draw(state.config.training, 8, 3, "generator", 0), decay=torch.tensor(0.25)))
    expected = 0.25 * before + 0.75 * state.generator.to_image.weight.detach()
    torch.testing.assert_close(state.generator_ema.to_image.weight, expected, rtol=0, atol=1e-7)


def test_the_average_on_a_device_is_that_on_the_cpu(make_state):
    """A GPU multiplies by a decay on the device, and a CPU interpolates."""

    class OnADevice(torch.Tensor):
        device = torch.device("cuda", 0)

    averages = []
    for decay in (torch.tensor(0.25), torch.tensor(0.25).as_subclass(OnADevice)):
        mean, value = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        for network, seed in ((mean, 0), (value, 1)):
            torch.nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(seed))
            torch.nn.init.normal_(network.bias, generator=torch.Generator().manual_seed(seed))
        ema.MovingAverage(mean, value).update(decay)
        averages.append(mean)
    torch.testing.assert_close(averages[1].weight, averages[0].weight)
    torch.testing.assert_close(averages[1].bias, averages[0].bias)


def test_mirrored_images_are_mirrored_left_to_right(make_state):
    real = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    mirrored = torch.tensor([True, False])
    found = real_images(make_state(), Inputs(z=torch.zeros(2, 8), real=real, mirrored=mirrored))
    plain = real.float() / 127.5 - 1
    torch.testing.assert_close(found, torch.stack([plain[0][:, :, range(31, -1, -1)], plain[1]]))


def test_a_run_reads_its_images_in_the_order_of_its_seed_and_mirrors_them_if_asked(make_state):
    state = make_state("data.flip=true", "training.seed=5")
    data = open_data(state.config.data)
    inputs = feed.feed_of(SimpleNamespace(config=state.config, state=state, data=data))
    inputs.fetch()
    first = next(inputs.take())
    seeds = {seed: TrainingBatches(data, seed=seed, batch_size=4, flip=True) for seed in (5, 6)}
    images, _, mirrored = next(iter(seeds[5]))
    assert torch.equal(first.real, images) and torch.equal(first.mirrored, mirrored)
    flips = [torch.cat([batches.mirrored(i) for i in range(20)]) for batches in seeds.values()]
    assert not torch.equal(*flips) and not torch.equal(seeds[5].indices(0), seeds[6].indices(0))


def test_options_of_norms_and_initialization_reach_both_networks(make_config):
    generator = build_generator(make_config("model.generator.norm_momentum=0.3", "model.generator.norm_eps=0.01"))
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.3, 0.01)}
    discriminator = build_discriminator(make_config("model.discriminator.init=orthogonal"))
    weight = discriminator.blocks[1].conv1.weight.detach().flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), rtol=0, atol=1e-5)


def test_running_statistics_of_both_generators_are_averaged_over_the_processes(make_state, monkeypatch):
    state, averaged = make_state(), []
    monkeypatch.setattr(state_module, "average", lambda tensors: averaged.extend(map(id, tensors)))
    state.average_statistics()
    networks = (state.generator, state.generator_ema)
    norms = [module for network in networks for module in network.modules() if isinstance(module, BatchNorm)]
    assert sorted(averaged) == sorted(id(t) for norm in norms for t in (norm.running_mean, norm.running_var))


def test_evaluations_draw_with_the_seed_and_truncation_of_their_protocol(make_state, monkeypatch):
    state, seen = make_state("evaluation.seed=3", "evaluation.truncation=0.5"), []
    monkeypatch.setattr(evaluator, "evaluate", lambda sample, **facts: sample(0, 4, torch.zeros(4).long()))
    monkeypatch.setattr(state.generator_ema, "forward", lambda z, y: seen.append(z) or torch.zeros(4, 3, 32, 32))
    evaluator.Evaluator(state.config.evaluation, None)(state.generator_ema, None, 1, ema=True)
    assert torch.equal(seen[0], latents(3, "sample", 0, 4, 8, 0.5))


def test_grids_are_of_the_moving_average(make_state):
    state = make_state()
    torch.nn.init.constant_(state.generator.to_image.bias, 9.0)  # white images
    grid = diagnostics.sample_grid(state, *diagnostics.grid_inputs(state))
    assert grid.float().mean() < 250


def test_recorded_norms_and_singular_values(make_state):
    state = make_state()
    for network, value in ((state.generator, 2.0), (state.discriminator, 0.0)):
        for p in network.parameters():
            p.grad = torch.full_like(p, value)
    norms, count = diagnostics.gradient_norms(state), sum(p.numel() for p in state.generator.parameters())
    assert norms["gradient/generator"].item() == pytest.approx(2 * count**0.5)
    assert norms["gradient/discriminator"] == 0
    largest = torch.linalg.svdvals(state.generator.project.weight)[0].item()
    found = diagnostics.singular_values(state)["singular_value/generator.project"]
    assert found == pytest.approx(largest, rel=0.05)


def test_the_recorded_spread_of_fake_images_is_theirs(make_state):
    state, shown = make_state(), []
    handle = state.discriminator.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0].detach()))
    inputs = replace(
        draw(state.config.training, 8, 3, "discriminator", 0),
        real=torch.zeros(4, 3, 32, 32, dtype=torch.uint8),
        real_y=torch.zeros(4, dtype=torch.long),
    )
    metrics = discriminator_step(state, inputs)
    handle.remove()
    assert metrics["spread/real"] == 0
    torch.testing.assert_close(metrics["spread/fake"], shown[0][4:].float().std(0).mean())


def test_recorded_entropies_are_those_of_the_maps():
    uniform, single = torch.full((2, 1, 4, 4), 0.25), torch.eye(4).expand(2, 1, 4, 4)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    views = [
        LayerView("generator", layer, "generated", images, None, [AttentionMap("matrix", w, (2, 2), (2, 2), True)], 1.0)
        for layer, w in (("a", uniform), ("b", single))
    ]
    assert attention_entropies(views) == pytest.approx(
        {"attention/entropy/generator.a": 1.0, "attention/entropy/generator.b": 0.0}, abs=1e-6
    )
