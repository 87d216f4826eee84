"""The two updates: which weights change, how often power iteration runs, accumulation, random draws."""

from collections import Counter

import pytest
import torch

from sagan.data import open_data
from sagan.layers import ready, spectral_weights
from sagan.training import diagnostics, steps
from sagan.training.augment import diffaugment
from sagan.training.loop import train_step
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.steps import discriminator_step, draw, generator_step
from sagan.viewing import recorder

AUGMENTED = "training.diffaugment=[color,translation,cutout]"


def real_batch(state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = state.config.training.batch_size
    return torch.rand(n, 3, 32, 32, generator=generator) * 2 - 1, torch.randint(3, (n,), generator=generator)


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
    discriminator_step(state, *real_batch(state), draw(state, "discriminator", 0, groups=2))
    assert same(of_g, weights(state.generator)) and moved(of_d, weights(state.discriminator))
    assert all(p.grad is None for p in state.generator.parameters()) and state.step == 0

    of_d, vectors_d = weights(state.discriminator), vectors(state.discriminator)
    gradients = {n: p.grad.clone() for n, p in state.discriminator.named_parameters()}
    generator_step(state, draw(state, "generator", 0, groups=1))
    assert same(of_d, weights(state.discriminator)) and moved(of_g, weights(state.generator))
    assert same(gradients, {n: p.grad for n, p in state.discriminator.named_parameters()})
    assert all(
        torch.equal(u, v)
        for n, pair in vectors_d.items()
        for u, v in zip(pair, vectors(state.discriminator)[n], strict=True)
    )
    assert all(p.requires_grad for p in state.discriminator.parameters()) and state.step == 1


@pytest.fixture
def iterations(monkeypatch):
    """Count power iterations by layer."""
    counted, iterate = Counter(), ready.power_iteration

    def counting(layers):
        counted.update(layers)
        return iterate(layers)

    monkeypatch.setattr(ready, "power_iteration", counting)
    return counted


def counts(iterations, network):
    return {iterations[layer] for layer in spectral_weights(network).values()}


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_power_iterations_of_each_update(make_state, iterations, micro_batches):
    state = make_state(f"training.micro_batches={micro_batches}")
    iterations.clear()
    discriminator_step(state, *real_batch(state), draw(state, "discriminator", 0, groups=2))
    assert counts(iterations, state.generator) == {1} and counts(iterations, state.discriminator) == {1}
    iterations.clear()
    generator_step(state, draw(state, "generator", 0, groups=1))
    assert counts(iterations, state.generator) == {1} and counts(iterations, state.discriminator) == {0}
    assert counts(iterations, state.generator_ema) == {0}


def test_power_iterations_of_a_step_with_several_discriminator_updates(make_state, iterations):
    state = make_state("training.d_steps=3")
    iterations.clear()
    train_step(state, iter([real_batch(state, i) for i in range(3)]))
    assert counts(iterations, state.generator) == {4} and counts(iterations, state.discriminator) == {3}


def test_measuring_a_state_does_not_change_it(make_state, iterations):
    state = make_state()
    data = open_data(state.config.data)
    train_step(state, iter([real_batch(state)]))
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
    discriminator_step(state, *real_batch(state), draw(state, "discriminator", 0, groups=2))
    assert seen == [(4, 1), (4, 1)]  # two micro-batches of 2 real and 2 fake images


def test_losses_and_metrics_follow_from_the_logits(make_state):
    state = make_state(AUGMENTED)
    (real, y), draws = real_batch(state), draw(state, "discriminator", 0, groups=2)
    logits = []
    handle = state.discriminator.register_forward_hook(lambda module, inputs, output: logits.append(output.detach()))
    metrics = discriminator_step(state, real, y, draws)
    of_real, of_fake = logits[0].chunk(2)
    assert metrics["loss/discriminator"] == discriminator_hinge(of_real, of_fake)
    assert metrics["logits/real"] == of_real.mean() and metrics["logits/fake"] == of_fake.mean()
    assert metrics["accuracy/real"] == (of_real > 0).float().mean()
    assert metrics["accuracy/fake"] == (of_fake < 0).float().mean()
    torch.testing.assert_close(metrics["spread/real"], real.std(0).mean())
    logits.clear()
    assert generator_step(state, draw(state, "generator", 0, groups=1))["loss/generator"] == generator_hinge(logits[0])
    handle.remove()


def test_real_and_fake_images_are_augmented_by_the_same_policies_with_their_own_draws(make_state, monkeypatch):
    state = make_state(AUGMENTED, "training.micro_batches=2")
    (real, y), draws = real_batch(state), draw(state, "discriminator", 0, groups=2)
    calls, seen = [], []
    monkeypatch.setattr(steps, "diffaugment", lambda i, p, u: calls.append((i.detach(), p, u)) or diffaugment(i, p, u))
    state.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    discriminator_step(state, real, y, draws)
    assert draws.uniform.shape == (8, 7)
    for i, (images, policies, uniform) in enumerate(calls):
        part = slice(2 * i, 2 * i + 2)
        assert policies == ["color", "translation", "cutout"]
        assert torch.equal(images[:2], real[part])
        assert torch.equal(uniform, torch.cat([draws.uniform[:4][part], draws.uniform[4:][part]]))
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
        (real, y), purpose = real_batch(state), "discriminator"
        y = y if state.generator.num_classes else None
        torch.nn.init.constant_(state.discriminator.blocks[0].attention.gamma, 0.5)
        torch.nn.init.constant_(state.generator.blocks[1].attention.gamma, 0.5)
        metrics = discriminator_step(state, real, y, draw(state, purpose, 0, groups=2))
        of_d = gradients(state.discriminator)
        # D's weights now differ in the last bits, which Adam can amplify: give G the same D in both cases.
        state.discriminator.load_state_dict(make_state(*overrides).discriminator.state_dict())
        metrics |= generator_step(state, draw(state, "generator", 0, groups=1))
        found.append((of_d, gradients(state.generator), metrics))
    (one_d, one_g, one), (parts_d, parts_g, parts) = found
    assert_same_gradients(one_d, parts_d)
    assert_same_gradients(one_g, parts_g)
    for name in ("loss/discriminator", "loss/generator", "logits/real", "logits/fake"):
        torch.testing.assert_close(parts[name], one[name], rtol=1e-4, atol=1e-5)


def test_draws_are_functions_of_seed_purpose_and_index(make_state):
    state, other = make_state(AUGMENTED), make_state(AUGMENTED, "training.seed=1")
    one = draw(state, "generator", 3, groups=1)
    again = draw(state, "generator", 3, groups=1)
    assert torch.equal(one.z, again.z) and torch.equal(one.y, again.y) and torch.equal(one.uniform, again.uniform)
    for different in (
        draw(state, "generator", 4, 1),
        draw(state, "discriminator", 3, 1),
        draw(other, "generator", 3, 1),
    ):
        assert not torch.equal(one.z, different.z)


def test_every_update_has_fresh_latents(make_state, monkeypatch):
    state, drawn = make_state("training.d_steps=2"), []
    state.generator.register_forward_pre_hook(lambda module, inputs: drawn.append(inputs[0].clone()))
    for _ in range(2):
        train_step(state, iter([real_batch(state, i) for i in range(2)]))
    # The index is step * d_steps + i, so no two of the six are equal.
    assert len(drawn) == 6 and len({tuple(z.flatten().tolist()) for z in drawn}) == 6


def test_labels_are_uniform_and_the_latents_normal(make_state):
    state = make_state("training.batch_size=9000")
    draws = draw(state, "generator", 0, groups=1)
    assert abs(draws.z.mean()) < 0.02 and abs(draws.z.std() - 1) < 0.02
    assert (torch.bincount(draws.y, minlength=3) / 9000 - 1 / 3).abs().max() < 0.02


def test_two_processes_share_the_draws_of_one(make_state, monkeypatch):
    state = make_state(AUGMENTED)
    whole = draw(state, "discriminator", 0, groups=2)
    monkeypatch.setattr(steps, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(steps, "rank", lambda rank=rank: rank)
        parts.append(draw(state, "discriminator", 0, groups=2))
    assert torch.equal(torch.cat([p.z for p in parts]), whole.z)
    assert torch.equal(torch.cat([p.y for p in parts]), whole.y)
    by_group = [torch.cat([p.uniform.chunk(2)[group] for p in parts]) for group in range(2)]
    assert torch.equal(torch.cat(by_group), whole.uniform)


def test_adam_has_the_papers_constants_and_two_learning_rates(make_state):
    state = make_state()
    for optimizer, lr in ((state.generator_optimizer, 1e-4), (state.discriminator_optimizer, 4e-4)):
        group = optimizer.param_groups[0]
        assert (group["lr"], group["betas"]) == (lr, (0.0, 0.9))
