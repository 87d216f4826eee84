"""The two updates: which weights change, how often power iteration runs, accumulation, random draws."""

import copy
import itertools
import statistics
from collections import Counter
from dataclasses import replace

import pytest
import torch

from sagan.data import open_data
from sagan.layers import Spectral, Weights, spectral_weights
from sagan.training import diagnostics, steps
from sagan.training import inputs as inputs_module
from sagan.training.augment import diffaugment
from sagan.training.inputs import draw, step_inputs
from sagan.training.loop import train_step
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.steps import discriminator_step, generator_step, real_images
from sagan.viewing import recorder

AUGMENTED = "training.diffaugment=[color,translation,cutout]"


def real_batch(state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = state.config.training.batch_size
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.randint(3, (n,), generator=generator)


def drawn(state, purpose, index=0):
    return draw(state.config.training, state.generator.z_dim, state.generator.num_classes, purpose, index)


def d_inputs(state):
    """Return the inputs of an update of D."""
    real, y = real_batch(state)
    return replace(drawn(state, "discriminator"), real=real, real_y=y if state.generator.num_classes else None)


def g_inputs(state):
    """Return the inputs of an update of G."""
    return replace(drawn(state, "generator"), decay=torch.tensor(0.5))


def of_steps(state):
    """Return the inputs of all updates."""
    batches = ((*real_batch(state, i), None) for i in itertools.count())
    return step_inputs(state.config.training, state.generator.z_dim, state.generator.num_classes, batches, state.step)


def as_float(images):
    return images.float() / 127.5 - 1


def weights(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def vectors(network):
    return {name: (m.u.clone(), m.v.clone()) for name, m in spectral_weights(network).items()}


def same(before, after):
    return [name for name in before if not torch.equal(before[name], after[name])] == []


def moved(before, after):
    """Return whether all weights changed, but for two exceptions.

    gamma starts at 0, so the weights before it in the attention layer have no gradient yet. Real and fake logits inside
    the margin push D's last bias in opposite directions.
    """
    still = [n for n in before if torch.equal(before[n], after[n])]
    return all(n == "logit.bias" or (".attention." in n and not n.endswith("gamma")) for n in still)


@pytest.mark.parametrize("overrides", [[], ["training.micro_batches=2", AUGMENTED]])
def test_each_update_changes_only_its_own_network(make_state, overrides):
    state = make_state(*overrides)
    of_g, of_d = weights(state.generator), weights(state.discriminator)
    discriminator_step(state, d_inputs(state))
    assert same(of_g, weights(state.generator)) and moved(of_d, weights(state.discriminator))
    assert all(p.grad is None for p in state.generator.parameters())

    of_d, vectors_d = weights(state.discriminator), vectors(state.discriminator)
    gradients = {n: p.grad.clone() for n, p in state.discriminator.named_parameters()}
    generator_step(state, g_inputs(state))
    assert same(of_d, weights(state.discriminator)) and moved(of_g, weights(state.generator))
    assert same(gradients, {n: p.grad for n, p in state.discriminator.named_parameters()})
    assert all(
        torch.equal(u, v)
        for n, pair in vectors_d.items()
        for u, v in zip(pair, vectors(state.discriminator)[n], strict=True)
    )
    assert all(p.requires_grad for p in state.discriminator.parameters())


@pytest.fixture
def iterations(monkeypatch):
    """Count power iterations by layer."""
    counted, iterate = Counter(), Spectral.iterate

    def counting(spectral):
        counted.update(spectral.layers)
        return iterate(spectral)

    monkeypatch.setattr(Spectral, "iterate", counting)
    return counted


def counts(iterations, network):
    return {iterations[layer] for layer in spectral_weights(network).values()}


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_power_iterations_of_each_update(make_state, iterations, micro_batches):
    state = make_state(f"training.micro_batches={micro_batches}")
    iterations.clear()
    discriminator_step(state, d_inputs(state))
    assert counts(iterations, state.generator) == {1} and counts(iterations, state.discriminator) == {1}
    iterations.clear()
    generator_step(state, g_inputs(state))
    assert counts(iterations, state.generator) == {1} and counts(iterations, state.discriminator) == {0}
    assert counts(iterations, state.generator_ema) == {0}


def test_power_iterations_of_a_step_with_several_discriminator_updates(make_state, iterations):
    state = make_state("training.d_steps=3")
    iterations.clear()
    train_step(state, of_steps(state))
    assert counts(iterations, state.generator) == {4} and counts(iterations, state.discriminator) == {3}


def test_measuring_a_state_does_not_change_it(make_state, iterations):
    state = make_state()
    data = open_data(state.config.data)
    train_step(state, of_steps(state))
    assert state.step == 1
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in state.networks.items()}
    iterations.clear()
    z, y = diagnostics.grid_inputs(state)
    diagnostics.sample_grid(state, z, y)
    recorder.attention_entropies(recorder.attention_views(state, data))
    diagnostics.singular_values(state), diagnostics.gammas(state), diagnostics.gradient_norms(state)
    assert not iterations
    assert all(same(before[n], m.state_dict()) for n, m in state.networks.items())
    assert state.generator.training and state.discriminator.training and not state.generator_ema.training


def test_real_and_fake_share_one_pass_after_one_iteration(make_state, iterations):
    state = make_state("training.micro_batches=2")
    seen = []
    hook = lambda module, inputs: seen.append((len(inputs[0]), iterations[module.logit]))  # noqa: E731
    state.discriminator.register_forward_pre_hook(hook)
    iterations.clear()
    discriminator_step(state, d_inputs(state))
    assert seen == [(4, 1), (4, 1)]  # two micro-batches of 2 real and 2 fake images


def test_losses_and_metrics_follow_from_the_logits(make_state):
    state = make_state(AUGMENTED)
    inputs, logits = d_inputs(state), []
    handle = state.discriminator.register_forward_hook(lambda module, inputs, output: logits.append(output.detach()))
    metrics = discriminator_step(state, inputs)
    of_real, of_fake = logits[0].chunk(2)
    assert metrics["loss/discriminator"] == discriminator_hinge(of_real, of_fake)
    assert metrics["logits/real"] == of_real.mean() and metrics["logits/fake"] == of_fake.mean()
    assert metrics["accuracy/real"] == (of_real > 0).float().mean()
    assert metrics["accuracy/fake"] == (of_fake < 0).float().mean()
    torch.testing.assert_close(metrics["spread/real"], as_float(inputs.real).std(0).mean())
    logits.clear()
    assert generator_step(state, g_inputs(state))["loss/generator"] == generator_hinge(logits[0])
    handle.remove()


def test_real_and_fake_images_are_augmented_by_the_same_policies_with_their_own_draws(make_state, monkeypatch):
    state = make_state(AUGMENTED, "training.micro_batches=2")
    inputs, calls, seen = d_inputs(state), [], []
    monkeypatch.setattr(steps, "diffaugment", lambda i, p, u: calls.append((i.detach(), p, u)) or diffaugment(i, p, u))
    state.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    discriminator_step(state, inputs)
    assert inputs.uniform.shape == (8, 7) and len(calls) == 2
    for i, (images, policies, uniform) in enumerate(calls):
        part = slice(2 * i, 2 * i + 2)
        assert policies == ["color", "translation", "cutout"]
        assert torch.equal(images[:2], real_images(state, inputs)[part])
        assert torch.equal(uniform, torch.cat([inputs.uniform[:4][part], inputs.uniform[4:][part]]))
        assert torch.equal(seen[i], diffaugment(images, policies, uniform))


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def assert_same_gradients(one, parts):
    largest = max(g.abs().max() for g in one.values())
    for name in one:
        torch.testing.assert_close(parts[name], one[name], rtol=1e-3, atol=1e-5 * float(largest), msg=name)


@pytest.mark.parametrize("overrides", [[], [AUGMENTED], ["data.num_classes=0"]])
def test_accumulated_gradients_equal_those_of_the_large_batch(make_state, overrides):
    """G uses running statistics here, because batch statistics differ between the parts and the whole."""
    found = []
    for micro_batches in (1, 4):
        state = make_state("training.batch_size=8", f"training.micro_batches={micro_batches}", *overrides)
        state.generator.eval()
        torch.nn.init.constant_(state.discriminator.blocks[0].attention.gamma, 0.5)
        torch.nn.init.constant_(state.generator.blocks[1].attention.gamma, 0.5)
        metrics = discriminator_step(state, d_inputs(state))
        found_d = gradients(state.discriminator)
        # D's weights now differ in the last bits, which Adam can amplify: give G the same D in both cases.
        state.discriminator.load_state_dict(make_state(*overrides).discriminator.state_dict())
        metrics |= generator_step(state, g_inputs(state))
        found.append((found_d, gradients(state.generator), metrics))
    (one_d, one_g, one), (parts_d, parts_g, parts) = found
    assert_same_gradients(one_d, parts_d)
    assert_same_gradients(one_g, parts_g)
    for name in ("loss/discriminator", "loss/generator", "logits/real", "logits/fake"):
        torch.testing.assert_close(parts[name], one[name], rtol=1e-4, atol=1e-5)


def test_draws_are_functions_of_seed_purpose_and_index(make_state):
    state, other = make_state(AUGMENTED), make_state(AUGMENTED, "training.seed=1")
    one, again = drawn(state, "generator", 3), drawn(state, "generator", 3)
    assert torch.equal(one.z, again.z) and torch.equal(one.y, again.y) and torch.equal(one.uniform, again.uniform)
    for different in (
        drawn(state, "generator", 4),
        drawn(state, "discriminator", 3),
        drawn(other, "generator", 3),
    ):
        assert not torch.equal(one.z, different.z)


def test_every_update_has_fresh_latents(make_state, monkeypatch):
    state, seen = make_state("training.d_steps=2"), []
    state.generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    inputs = of_steps(state)
    for _ in range(2):
        train_step(state, inputs)
    # The index is step * d_steps + i, so no two of the six are equal.
    assert len(seen) == 6 and len({tuple(z.flatten().tolist()) for z in seen}) == 6


def test_labels_are_uniform_and_the_latents_normal(make_state):
    state = make_state("training.batch_size=9000")
    draws = drawn(state, "generator")
    assert abs(draws.z.mean()) < 0.02 and abs(draws.z.std() - 1) < 0.02
    assert (torch.bincount(draws.y, minlength=3) / 9000 - 1 / 3).abs().max() < 0.02


def test_two_processes_share_the_draws_of_one(make_state, monkeypatch):
    state = make_state(AUGMENTED)
    whole = drawn(state, "discriminator")
    monkeypatch.setattr(inputs_module, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(inputs_module, "rank", lambda rank=rank: rank)
        parts.append(drawn(state, "discriminator"))
    assert torch.equal(torch.cat([p.z for p in parts]), whole.z)
    assert torch.equal(torch.cat([p.y for p in parts]), whole.y)
    by_group = [torch.cat([p.uniform.chunk(2)[group] for p in parts]) for group in range(2)]
    assert torch.equal(torch.cat(by_group), whole.uniform)


def test_adam_has_the_papers_constants_and_two_learning_rates(make_state):
    state = make_state()
    for optimizer, lr in ((state.generator_optimizer, 1e-4), (state.discriminator_optimizer, 4e-4)):
        group = optimizer.param_groups[0]
        assert (group["lr"], group["betas"]) == (lr, (0.0, 0.9))


def plain_gradients(state, loss, network):
    """Gradients by `backward`, with every layer on its own: the step as it is usually written."""
    network.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters()}


def difference(found, expected):
    """Return the distance of a network's gradients, as one vector, relative to their length."""
    one, other = (torch.cat([g[name].flatten() for name in expected]).double() for g in (found, expected))
    return float((one - other).norm() / other.norm())


def copied(state):
    generator, discriminator = copy.deepcopy(state.generator), copy.deepcopy(state.discriminator)
    made = Weights(generator), Weights(discriminator)
    return replace(
        state,
        generator=generator,
        discriminator=discriminator,
        generator_weights=made[0],
        discriminator_weights=made[1],
    )


@pytest.mark.parametrize(
    ("dtype", "smooth", "overrides"),
    # Batch norm over few images amplifies rounding errors: the small parts of a batch are compared in float64.
    [
        pytest.param(torch.float32, False, ["training.batch_size=24"], marks=pytest.mark.slow),
        (torch.float32, True, ["training.batch_size=24"]),
        (torch.float64, False, [AUGMENTED, "training.micro_batches=2"]),
    ],
    ids=["float32", "float32-smooth", "float64"],
)
def test_updates_agree_with_the_plain_step_at_the_states_of_a_run(make_state, monkeypatch, dtype, smooth, overrides):
    if smooth:
        for name in ("relu", "relu_"):
            monkeypatch.setattr(torch.nn.functional, name, torch.nn.functional.softplus)
    state = make_state(*overrides)
    for network in state.networks.values():
        network.to(dtype)
        network.compute_dtype = dtype
    state = copied(state)
    state.moving_average = None
    inputs, errors = of_steps(state), []
    for _ in range(20):
        given = [replace(i, z=i.z.to(dtype)) for i in (next(inputs), next(inputs))]
        one, other = copied(state), copied(state)
        found, metrics = steps.discriminator_gradients(other, given[0])
        one.generator_weights.spectral.iterate(), one.discriminator_weights.spectral.iterate()
        losses = []
        for part in given[0].parts(state.config.training.micro_batches):
            with torch.no_grad():
                fake = one.generator(part.z, part.y)
            images = steps._augment(state, torch.cat([real_images(state, part).to(dtype), fake]), part)
            logits = one.discriminator(images, torch.cat([part.real_y, part.y])).chunk(2)
            losses.append(discriminator_hinge(*logits))
        loss = torch.stack(losses).mean()
        torch.testing.assert_close(metrics["loss/discriminator"], loss.detach(), rtol=1e-5, atol=0)
        names = [name for name, _ in state.discriminator.named_parameters()]
        errors.append(difference(dict(zip(names, found, strict=True)), plain_gradients(one, loss, one.discriminator)))

        one, other = copied(state), copied(state)
        found, metrics = steps.generator_gradients(other, given[1])
        one.generator_weights.spectral.iterate()
        losses = [
            generator_hinge(one.discriminator(steps._augment(state, one.generator(part.z, part.y), part), part.y))
            for part in given[1].parts(state.config.training.micro_batches)
        ]
        loss = torch.stack(losses).mean()
        torch.testing.assert_close(metrics["loss/generator"], loss.detach(), rtol=1e-5, atol=1e-5)  # logits near 0.1
        names = [name for name, _ in state.generator.named_parameters()]
        errors.append(difference(dict(zip(names, found, strict=True)), plain_gradients(one, loss, one.generator)))
        train_step(state, iter(given))
    if dtype == torch.float64:
        assert max(errors) <= 1e-10
    elif smooth:
        assert max(errors) <= 1e-5
    else:  # A rounding error may move an activation to the other side of 0, where the gradient jumps.
        assert statistics.quantiles(errors, n=4)[-1] <= 1e-5
