"""Everything that a training step changes, and how it becomes a checkpoint and comes back."""

import copy
import inspect
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sagan.config import Config, OptimizerConfig
from sagan.models.build import build_discriminator, build_generator
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.distributed import average, world_size


@dataclass
class TrainState:
    """Networks, their optimizers and the number of finished steps. `*_parallel` is the network itself in one process,
    and its DistributedDataParallel wrapper in several; only passes whose gradients count go through it."""

    config: Config
    device: torch.device
    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator | None
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    generator_parallel: nn.Module
    discriminator_parallel: nn.Module
    step: int = 0

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks by name, as a checkpoint holds them."""
        named = {"generator": self.generator, "discriminator": self.discriminator}
        return named if self.generator_ema is None else {**named, "generator_ema": self.generator_ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers by name, as a checkpoint holds them."""
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    @property
    def shown_generator(self) -> Generator:
        """The generator that grids and evaluations show: the moving average where there is one."""
        return self.generator if self.generator_ema is None else self.generator_ema

    def checkpoint(self) -> dict:
        """Tensors and plain values from which `restore` goes on exactly. Random draws need nothing: they are functions
        of the step."""
        dtype = str(self.generator.compute_dtype).removeprefix("torch.")  # what precision `auto` came to
        modules = {name: m.state_dict() for name, m in {**self.networks, **self.optimizers}.items()}
        return {"step": self.step, "config": asdict(self.config), "dtype": dtype, **modules}

    def restore(self, checkpoint: dict) -> None:
        """Takes over what `checkpoint()` returned."""
        for name, module in {**self.networks, **self.optimizers}.items():
            module.load_state_dict(checkpoint[name])
        self.step = checkpoint["step"]

    def average_statistics(self) -> None:
        """Gives every process the mean of all running statistics of batch norm, which each took from its own shard."""
        networks = [n for n in (self.generator, self.generator_ema) if n is not None]
        average([b for n in networks for name, b in n.named_buffers() if "running_" in name])


def build_state(config: Config, device: torch.device, dtype: torch.dtype) -> TrainState:
    """A fresh state on a device, with activations of `dtype`. `config.data.num_classes` must be a number."""
    generator = build_generator(config).to(device)
    discriminator = build_discriminator(config).to(device)
    generator.compute_dtype = discriminator.compute_dtype = dtype
    generator_ema = copy.deepcopy(generator).eval().requires_grad_(False) if config.training.ema_decay else None
    return TrainState(
        config=config,
        device=device,
        generator=generator,
        discriminator=discriminator,
        generator_ema=generator_ema,
        generator_optimizer=_adam(generator, config.optimizer.generator_lr, config.optimizer),
        discriminator_optimizer=_adam(discriminator, config.optimizer.discriminator_lr, config.optimizer),
        generator_parallel=_parallel(generator, device),
        discriminator_parallel=_parallel(discriminator, device),
    )


def _adam(network: nn.Module, lr: float, config: OptimizerConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def _parallel(network: nn.Module, device: torch.device) -> nn.Module:
    if world_size() == 1:
        return network
    # Buffers stay each process's own: singular vectors agree anyway, being functions of equal weights.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
    device_ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=device_ids, **{option: False})
