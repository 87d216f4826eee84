"""The forms of a training step to compare: this program's, the model written plainly, and torch-mimicry's."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sagan.config import Config
from sagan.layers import Conv2d
from sagan.training.input_buffers import InputBuffers, pack_inputs
from sagan.training.inputs import Batch, Inputs, step_inputs
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.performance import choose_updates
from sagan.training.state import TrainState, build_state
from sagan.training.steps import real_images, train_step

Step = Callable[[], object]


def our_step(config: Config, device: torch.device, dtype: torch.dtype, mode: str) -> Step:
    """Return a training step as a run takes it, in a mode of `training.performance`."""
    config = replace(config, training=replace(config.training, performance=mode))
    state = build_state(config, device, dtype)
    inputs, updates = noise_inputs(state), choose_updates(state)
    return lambda: train_step(state, inputs, updates)


def noise_inputs(state: TrainState) -> Iterator[Inputs]:
    """Yield the inputs of updates, with noise instead of images, on the device of the state."""
    config, generator = state.config, state.generator
    inputs = step_inputs(config.training, generator.z_dim, generator.num_classes, noise_batches(state), step=0)
    if state.device.type == "cpu":
        return inputs
    packed = [pack_inputs(i, pin=True) for i in itertools.islice(inputs, 4 * (config.training.d_steps + 1))]
    return map(InputBuffers(state.device).load, itertools.cycle(packed))


def noise_batches(state: TrainState) -> Iterator[Batch]:
    """Yield batches of noise with labels."""
    config, generator = state.config, state.generator
    n, noise = config.training.batch_size, torch.Generator().manual_seed(0)
    shape = (n, generator.image_channels, *generator.size)
    while True:
        images = torch.randint(256, shape, dtype=torch.uint8, generator=noise)
        y = torch.randint(generator.num_classes, (n,), generator=noise) if generator.num_classes else None
        yield images, y, None


def plain_form(config: Config, device: torch.device) -> Step:
    """Return a step of the plain form."""
    state = plain_state(config, device)
    inputs = noise_inputs(state)
    return lambda: plain_step(state, inputs)


def plain_state(config: Config, device: torch.device) -> TrainState:
    """Return the same model in the default layout and float32, with resampling by its definition."""
    state = build_state(config, device, torch.float32)
    for network in state.networks.values():
        network.to(memory_format=torch.contiguous_format)
        setattr(network, "memory_format", torch.contiguous_format)  # noqa: B010  # both networks declare it
        for module in network.modules():
            if isinstance(module, Conv2d):
                module.fused = False
    return state


def plain_step(state: TrainState, inputs: Iterator[Inputs]) -> None:
    """Take the same step as most implementations write it: real and fake images in separate passes."""
    generator, discriminator = state.generator, state.discriminator
    of_g, of_d = state.generator_weights.spectral, state.discriminator_weights.spectral
    for _ in range(state.config.training.d_steps):
        drawn = next(inputs)
        real = real_images(state, drawn)
        state.discriminator_optimizer.zero_grad()
        of_g.iterate()
        with torch.no_grad():
            fake = generator(drawn.z, drawn.y)
        of_d.iterate()
        real_logits = discriminator(real, drawn.real_y)
        fake_logits = discriminator(fake, drawn.y)
        discriminator_hinge(real_logits, fake_logits).backward()
        state.discriminator_optimizer.step()
    drawn = next(inputs)
    state.generator_optimizer.zero_grad()
    of_g.iterate()
    discriminator.requires_grad_(False)
    generator_hinge(discriminator(generator(drawn.z, drawn.y), drawn.y)).backward()
    discriminator.requires_grad_(True)
    state.generator_optimizer.step()
    state.step += 1


def counted_flops(step: Step) -> int:
    """Return the FLOPs that a step carries out.

    Attention counts as its matrix products. torch before 2.15 does not count those of its fused kernel for CPUs, and
    newer versions add what its backward pass computes again.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def mimicry_step(config: Config, device: torch.device) -> Step | None:
    """Return a step of torch-mimicry's SAGAN on 32x32 images with the same widths, or None if it is not installed.

    The step runs D on real and fake images in separate passes, then G, with its own Adam settings, all in float32.
    """
    model, data, training = config.model, config.data, config.training
    classes, comparable = data.num_classes or 0, data.size == (32, 32) and data.channels == 3
    if importlib.util.find_spec("torch_mimicry") is None or not (classes and comparable):
        return None
    with _parents_without_tensorflow():
        from torch_mimicry.nets.sagan import sagan_32  # pyright: ignore[reportMissingImports]
    generator = sagan_32.SAGANGenerator32(classes, nz=model.generator.z_dim, ngf=4 * model.generator.channels)
    discriminator = sagan_32.SAGANDiscriminator32(classes, ndf=2 * model.discriminator.channels)
    generator, discriminator = generator.to(device), discriminator.to(device)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.0, 0.9)) for network in (discriminator, generator)
    ]
    n = training.batch_size
    real, real_y = torch.rand(n, 3, 32, 32, device=device) * 2 - 1, torch.randint(classes, (n,), device=device)

    def fake() -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randint(classes, (n,), device=device)
        return generator(torch.randn(n, model.generator.z_dim, device=device), y), y

    def step() -> None:
        for _ in range(training.d_steps):
            optimizers[0].zero_grad()
            images, y = fake()
            discriminator_hinge(discriminator(real, real_y), discriminator(images.detach(), y)).backward()
            optimizers[0].step()
        optimizers[1].zero_grad()
        generator_hinge(discriminator(*fake())).backward()
        optimizers[1].step()

    return step


@contextmanager
def _parents_without_tensorflow() -> Iterator[None]:
    """Let `torch_mimicry.nets.sagan` be imported without the imports of its parents, one of which is TensorFlow."""
    found = importlib.util.find_spec("torch_mimicry")
    assert found is not None and found.origin is not None
    root, added = Path(found.origin).parent, []
    for name in ("", ".nets", ".nets.sagan", ".nets.gan", ".nets.basemodel"):
        full = "torch_mimicry" + name
        if full not in sys.modules:
            package = ModuleType(full)
            package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            sys.modules[full] = package
            added.append(full)
    try:
        yield
    finally:
        for full in added:
            sys.modules.pop(full, None)
