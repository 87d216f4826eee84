"""The two updates of a training step, as functions of the state, the images and the step's own random draws."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sagan.layers import power_iteration
from sagan.runtime.distributed import rank, world_size
from sagan.runtime.draws import generator_for
from sagan.training.augment import diffaugment
from sagan.training.ema import ema_decay, update_ema
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.state import TrainState

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Draws:
    """This process's share of the random draws of one update: latents (n, z_dim), labels (n,) or None, and uniform
    numbers (m, 7) that steer augmentation, m = 2n in a discriminator update (real images first) and n otherwise."""

    z: Tensor
    y: Tensor | None
    uniform: Tensor | None

    def part(self, index: int, parts: int, groups: int) -> "Draws":
        """The draws of one micro-batch; the rows of `uniform` come in `groups` runs of n."""
        uniform = None
        if self.uniform is not None:
            uniform = torch.cat([g.chunk(parts)[index] for g in self.uniform.chunk(groups)])
        return Draws(self.z.chunk(parts)[index], None if self.y is None else self.y.chunk(parts)[index], uniform)


def draw(state: TrainState, purpose: str, index: int, groups: int) -> Draws:
    """The draws of update `index` for a purpose: made for the whole batch, of which this process takes its rows."""
    config, device = state.config, state.device
    n, generator = config.training.batch_size, generator_for(config.training.seed, purpose, index)
    share = slice(rank() * n // world_size(), (rank() + 1) * n // world_size())
    z = torch.randn(n, state.generator.z_dim, generator=generator)[share].to(device)
    y = uniform = None
    if state.generator.num_classes:
        y = torch.randint(state.generator.num_classes, (n,), generator=generator)[share].to(device)
    if config.training.diffaugment:
        rows = torch.rand(groups, n, 7, generator=generator)[:, share]
        uniform = rows.flatten(0, 1).to(device)
    return Draws(z, y, uniform)


def train_step(state: TrainState, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Metrics:
    """Take one step: `d_steps` updates of D, then one of G. The metrics of D are those of its last update."""
    for i in range(d_steps := state.config.training.d_steps):
        index = state.step * d_steps + i
        metrics = discriminator_step(state, *next(batches), draw(state, "discriminator", index, groups=2))
    return metrics | generator_step(state, draw(state, "generator", state.step, groups=1))


def discriminator_step(state: TrainState, real: Tensor, y: Tensor | None, draws: Draws) -> Metrics:
    """One update of D on real images (n, C, H, W) in [-1, 1] with labels y (n,), and as many fakes."""
    generator, discriminator, parts = state.generator, state.discriminator, state.config.training.micro_batches
    power_iteration(generator)
    power_iteration(discriminator)
    state.discriminator_optimizer.zero_grad()
    metrics = []
    for i in range(parts):
        draws_i = draws.part(i, parts, groups=2)
        real_i, y_i = real.chunk(parts)[i], None if y is None else y.chunk(parts)[i]
        with torch.no_grad():
            fake_i = generator(draws_i.z, draws_i.y)
        # Real and fake in one pass: one division by sigma for both, and larger products. D mixes no images of a batch.
        images = _augment(state, torch.cat([real_i, fake_i]), draws_i)
        labels = None if y is None else torch.cat([y_i, draws_i.y])
        with _backward_scope(state.discriminator_parallel, last=i == parts - 1):
            real_logits, fake_logits = state.discriminator_parallel(images, labels).chunk(2)
            loss = discriminator_hinge(real_logits, fake_logits)
            (loss / parts).backward()
        metrics.append(_discriminator_metrics(loss, real_logits, fake_logits, real_i, fake_i))
    state.discriminator_optimizer.step()
    return _mean(metrics)


def generator_step(state: TrainState, draws: Draws) -> Metrics:
    """One update of G, and of its moving average."""
    training = state.config.training
    power_iteration(state.generator)
    state.generator_optimizer.zero_grad()
    metrics = []
    with frozen(state.discriminator):
        for i in range(training.micro_batches):
            draws_i = draws.part(i, training.micro_batches, groups=1)
            with _backward_scope(state.generator_parallel, last=i == training.micro_batches - 1):
                fake = state.generator_parallel(draws_i.z, draws_i.y)
                logits = state.discriminator(_augment(state, fake, draws_i), draws_i.y)
                loss = generator_hinge(logits)
                (loss / training.micro_batches).backward()
            metrics.append({"loss/generator": loss.detach()})
    state.generator_optimizer.step()
    state.step += 1
    if state.generator_ema is not None:
        decay = ema_decay(state.step, training.ema_decay, training.ema_start)
        update_ema(state.generator_ema, state.generator, decay)
    return _mean(metrics)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's weights inside the block; gradients still flow through it to its input."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _augment(state: TrainState, images: Tensor, draws: Draws) -> Tensor:
    policies = state.config.training.diffaugment
    return diffaugment(images, policies, draws.uniform) if policies else images


def _backward_scope(network: nn.Module, last: bool):
    """Gradients travel between processes once an update, in the backward pass of its last micro-batch."""
    parallel = isinstance(network, DistributedDataParallel)
    return network.no_sync() if parallel and not last else nullcontext()


@torch.no_grad()
def _discriminator_metrics(
    loss: Tensor, real_logits: Tensor, fake_logits: Tensor, real: Tensor, fake: Tensor
) -> Metrics:
    return {
        "loss/discriminator": loss.detach(),
        "logits/real": real_logits.mean(),
        "logits/fake": fake_logits.mean(),
        "accuracy/real": (real_logits > 0).float().mean(),
        "accuracy/fake": (fake_logits < 0).float().mean(),
        # Spread of a pixel over the images of the batch, averaged over pixels: near 0 for fakes when G has collapsed.
        "spread/real": real.std(0).mean() if len(real) > 1 else real.new_zeros(()),
        "spread/fake": fake.std(0).mean() if len(fake) > 1 else fake.new_zeros(()),
    }


def _mean(metrics: list[Metrics]) -> Metrics:
    return {name: torch.stack([m[name] for m in metrics]).mean() for name in metrics[0]}
