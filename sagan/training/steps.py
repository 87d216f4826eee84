"""The two updates of a training step, as functions of the state and of the update's inputs.

Neither reads a number from the device or copies one to it, so the host never waits and a CUDA graph can hold them. An
update computes gradients, averages them over the processes, and takes a step of Adam.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sagan.data.batches import to_float
from sagan.runtime.distributed import average
from sagan.training.adam import adam_step
from sagan.training.augment import diffaugment
from sagan.training.inputs import Inputs
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.state import TrainState

Metrics = dict[str, Tensor]


Update = Callable[[TrainState, Inputs], Metrics]


def discriminator_step(state: TrainState, inputs: Inputs) -> Metrics:
    """Update D on n real images and n fake ones."""
    gradients, metrics = discriminator_gradients(state, inputs)
    average(gradients)
    apply_to_discriminator(state, gradients, inputs)
    return metrics


def generator_step(state: TrainState, inputs: Inputs) -> Metrics:
    """Update G and its moving average."""
    gradients, metrics = generator_gradients(state, inputs)
    average(gradients)
    apply_to_generator(state, gradients, inputs)
    return metrics


def discriminator_gradients(state: TrainState, inputs: Inputs) -> tuple[list[Tensor], Metrics]:
    """Return the gradients of D's loss, and the metrics of this update, after power iterations on G and D."""
    generator, discriminator, dtype = state.generator, state.discriminator, state.generator.compute_dtype
    parts, metrics = inputs.parts(state.config.training.micro_batches), []
    gradients = Gradients(state.discriminator_weights.parameters, len(parts))
    with torch.no_grad(), state.generator_weights.prepared(dtype, power_iteration=True):
        fakes = [generator(part.z, part.y) for part in parts]
    with state.discriminator_weights.prepared(dtype, power_iteration=True):
        for part, fake in zip(parts, fakes, strict=True):
            real = real_images(state, part)
            # One pass for real and fake: one large product is faster than two, and D does not mix a batch's images.
            images = _augment(state, torch.cat([real, fake]), part)
            labels = None if part.real_y is None or part.y is None else torch.cat([part.real_y, part.y])
            real_logits, fake_logits = discriminator(images, labels).chunk(2)
            loss = discriminator_hinge(real_logits, fake_logits)
            gradients.add(loss)
            metrics.append(_discriminator_metrics(loss, real_logits, fake_logits, real, fake))
            del loss, real_logits, fake_logits  # and with them this part's activations
    return gradients.total, _mean_of(metrics)


def generator_gradients(state: TrainState, inputs: Inputs) -> tuple[list[Tensor], Metrics]:
    """Return the gradients of G's loss, and the metrics of this update, after a power iteration on G alone."""
    generator, discriminator, dtype = state.generator, state.discriminator, state.generator.compute_dtype
    parts, metrics = inputs.parts(state.config.training.micro_batches), []
    gradients = Gradients(state.generator_weights.parameters, len(parts))
    with (
        state.discriminator_weights.prepared(dtype, power_iteration=False, gradients=False),
        state.generator_weights.prepared(dtype, power_iteration=True),
    ):
        for part in parts:
            fake = generator(part.z, part.y)
            loss = generator_hinge(discriminator(_augment(state, fake, part), part.y))
            gradients.add(loss)
            metrics.append({"loss/generator": loss.detach()})
            del loss, fake
    return gradients.total, _mean_of(metrics)


def apply_to_discriminator(state: TrainState, gradients: Sequence[Tensor], inputs: Inputs) -> None:
    """Update the weights of D. Its inputs are not used."""
    adam_step(state.discriminator_optimizer, gradients)


def apply_to_generator(state: TrainState, gradients: Sequence[Tensor], inputs: Inputs) -> None:
    """Update the weights of G, then their moving average."""
    adam_step(state.generator_optimizer, gradients)
    if state.moving_average is not None and inputs.decay is not None:
        state.moving_average.update(inputs.decay)


class Updates(NamedTuple):
    """The two updates of a step, as `sagan.training.performance` lets them run."""

    discriminator: Update
    generator: Update
    release: Callable[[], None] = lambda: None
    """Frees what they hold on to."""


EAGER = Updates(discriminator_step, generator_step)


def train_step(state: TrainState, inputs: Iterator[Inputs], updates: Updates = EAGER) -> Metrics:
    """Take one step: `d_steps` updates of D, then one of G. The metrics of D are those of its last update.

    `updates` are the two functions above as they are, or compiled or captured by `sagan.training.performance`.
    """
    metrics: Metrics = {}
    for _ in range(state.config.training.d_steps):
        metrics = updates.discriminator(state, next(inputs))
    metrics |= updates.generator(state, next(inputs))
    state.step += 1
    return metrics


class Gradients:
    """The gradients of weights, averaged over `parts` micro-batches. They have the memory layout of the weights."""

    def __init__(self, weights: list[nn.Parameter], parts: int):
        self.weights = weights
        self.parts = parts
        self.total: list[Tensor] = []
        self.count = 0

    def add(self, loss: Tensor) -> None:
        """Add the gradients of the next micro-batch. After the last, set `grad` of each weight to the total."""
        self.count += 1
        last = self.count == self.parts
        # Micro-batches share the part of the graph that prepares the weights: only the last backward pass may free it.
        found = gradients_of(loss / self.parts, self.weights, retain_graph=not last)
        if self.total:
            torch._foreach_add_(self.total, found)
        else:
            self.total = [_laid_out_as(w, g) for w, g in zip(self.weights, found, strict=True)]
        if last:
            for weight, gradient in zip(self.weights, self.total, strict=True):
                weight.grad = gradient


def gradients_of(loss: Tensor, weights: Sequence[Tensor], retain_graph: bool) -> tuple[Tensor, ...]:
    """Return the gradient of each weight; zeros for one that the loss does not depend on."""
    return torch.autograd.grad(loss, weights, retain_graph=retain_graph, materialize_grads=True)


def real_images(state: TrainState, inputs: Inputs) -> Tensor:
    """Return the real images of an update as float32 in [-1, 1], (n, C, H, W)."""
    assert inputs.real is not None
    images = inputs.real if state.images is None else state.images[inputs.real]
    real = to_float(images)
    if inputs.mirrored is None:
        return real
    return torch.where(inputs.mirrored[:, None, None, None], real.flip(3), real)


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _augment(state: TrainState, images: Tensor, inputs: Inputs) -> Tensor:
    if inputs.uniform is None:
        return images
    return diffaugment(images, state.config.training.diffaugment, inputs.uniform)


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


def _mean_of(parts: Sequence[Metrics]) -> Metrics:
    """Return the mean over micro-batches of each metric, as the elements of one vector."""
    vector = torch.stack([value for part in parts for value in part.values()])
    if len(parts) > 1:
        vector = vector.view(len(parts), -1).mean(0)
    return dict(zip(parts[0], vector.unbind(), strict=True))
