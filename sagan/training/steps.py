"""The two updates of a training step, as functions of the state, the images and the random draws of the step."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sagan.runtime.distributed import rank, world_size
from sagan.runtime.draws import generator_for
from sagan.training.augment import diffaugment
from sagan.training.ema import ema_decay, update_ema
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.state import TrainState

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Draws:
    """This process's share of the random draws of one update."""

    z: Tensor
    """Latents (n, z_dim)."""
    y: Tensor | None
    """Labels (n,), None without classes."""
    uniform: Tensor | None
    """Draws (m, 7) from [0, 1) for augmentation: m = 2n in a discriminator update, real images first, else n."""

    def part(self, index: int, parts: int, groups: int) -> "Draws":
        """Return the draws of one micro-batch. The rows of `uniform` are `groups` groups of n."""
        uniform = None
        if self.uniform is not None:
            uniform = torch.cat([g.chunk(parts)[index] for g in self.uniform.chunk(groups)])
        return Draws(self.z.chunk(parts)[index], None if self.y is None else self.y.chunk(parts)[index], uniform)


def draw(state: TrainState, purpose: str, index: int, groups: int) -> Draws:
    """Draw for update `index` of a purpose: for the whole batch, of which this process keeps its own rows."""
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
    metrics: Metrics = {}
    for i in range(d_steps := state.config.training.d_steps):
        index = state.step * d_steps + i
        metrics = discriminator_step(state, *next(batches), draw(state, "discriminator", index, groups=2))
    return metrics | generator_step(state, draw(state, "generator", state.step, groups=1))


def discriminator_step(state: TrainState, real: Tensor, y: Tensor | None, draws: Draws) -> Metrics:
    """Update D on real images (n, C, H, W) in [-1, 1] with labels y (n,), and on n fake images."""
    parts, dtype = state.config.training.micro_batches, state.generator.compute_dtype
    state.discriminator_optimizer.zero_grad()
    with torch.no_grad(), state.generator_weights.ready(dtype, iterate=True):
        fakes = [state.generator(d.z, d.y) for d in (draws.part(i, parts, groups=2) for i in range(parts))]
    metrics = []
    with state.discriminator_weights.ready(dtype, iterate=True):
        for i in range(parts):
            draws_i = draws.part(i, parts, groups=2)
            real_i, y_i = real.chunk(parts)[i], None if y is None else y.chunk(parts)[i]
            # One pass for real and fake: larger products. D does not mix images of a batch.
            images = _augment(state, torch.cat([real_i, fakes[i]]), draws_i)
            labels = None if y_i is None or draws_i.y is None else torch.cat([y_i, draws_i.y])
            with _backward_scope(state.discriminator_parallel, last=i == parts - 1):
                real_logits, fake_logits = state.discriminator_parallel(images, labels).chunk(2)
                loss = discriminator_hinge(real_logits, fake_logits)
                (loss / parts).backward(retain_graph=i < parts - 1)
            metrics.append(_discriminator_metrics(loss, real_logits, fake_logits, real_i, fakes[i]))
            del loss, real_logits, fake_logits  # and with them this part's activations
    state.discriminator_optimizer.step()
    return _mean(metrics)


def generator_step(state: TrainState, draws: Draws) -> Metrics:
    """Update G and its moving average."""
    training, dtype = state.config.training, state.generator.compute_dtype
    state.generator_optimizer.zero_grad()
    metrics = []
    with (
        frozen(state.discriminator),
        state.generator_weights.ready(dtype, iterate=True),
        state.discriminator_weights.ready(dtype, iterate=False),
    ):
        for i in range(training.micro_batches):
            draws_i = draws.part(i, training.micro_batches, groups=1)
            last = i == training.micro_batches - 1
            with _backward_scope(state.generator_parallel, last):
                fake = state.generator_parallel(draws_i.z, draws_i.y)
                logits = state.discriminator(_augment(state, fake, draws_i), draws_i.y)
                loss = generator_hinge(logits)
                (loss / training.micro_batches).backward(retain_graph=not last)
            metrics.append({"loss/generator": loss.detach()})
            del loss, logits, fake
    state.generator_optimizer.step()
    state.step += 1
    if state.generator_ema is not None:
        decay = ema_decay(state.step, training.ema_decay, training.ema_start)
        update_ema(state.generator_ema, state.generator, decay)
    return _mean(metrics)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients for the weights of the network inside the block; they still flow to its input."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _augment(state: TrainState, images: Tensor, draws: Draws) -> Tensor:
    if draws.uniform is None:
        return images
    return diffaugment(images, state.config.training.diffaugment, draws.uniform)


def _backward_scope(network: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Return a context in which gradients are exchanged between processes only for the last micro-batch."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()


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
        # Mean over pixels of the standard deviation over images: near 0 for fakes if G has collapsed.
        "spread/real": _spread(real),
        "spread/fake": _spread(fake),
    }


def _spread(images: Tensor) -> Tensor:
    """Return `images.std(0).mean()`, which torch computes slowly on a CPU; 0 for a single image."""
    squares = (images - images.mean(0)).square_().sum(0)
    return (squares / max(len(images) - 1, 1)).sqrt().mean()


def _mean(metrics: list[Metrics]) -> Metrics:
    return {name: torch.stack([m[name] for m in metrics]).mean() for name in metrics[0]}
