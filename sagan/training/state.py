"""Everything that a training step changes, and its conversion to and from a checkpoint."""

import copy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sagan.config import Config, OptimizerConfig
from sagan.layers import Weights
from sagan.models.build import build_discriminator, build_generator
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.distributed import average
from sagan.training.adam import Adam
from sagan.training.ema import MovingAverage


@dataclass
class TrainState:
    """Networks, their optimizers and the number of finished steps."""

    config: Config
    device: torch.device
    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator | None
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    generator_weights: Weights
    discriminator_weights: Weights
    moving_average: MovingAverage | None
    images: Tensor | None = None
    """All training images, uint8 (N, C, H, W), if they are on the device: inputs then hold indices of images."""
    step: int = 0

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by their names in a checkpoint."""
        named = {"generator": self.generator, "discriminator": self.discriminator}
        return named if self.generator_ema is None else {**named, "generator_ema": self.generator_ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers by their names in a checkpoint."""
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    @property
    def eval_generator(self) -> Generator:
        """Return the generator shown in grids and evaluations: the moving average if there is one."""
        return self.generator if self.generator_ema is None else self.generator_ema

    def checkpoint(self) -> dict:
        """Return the tensors and plain values from which `restore` continues exactly.

        Random draws are functions of the step, so there is no random state to save.
        """
        dtype = str(self.generator.compute_dtype).removeprefix("torch.")  # what precision `auto` resolved to
        modules = {name: m.state_dict() for name, m in {**self.networks, **self.optimizers}.items()}
        return {"step": self.step, "config": asdict(self.config), "dtype": dtype, **modules}

    def restore(self, checkpoint: dict) -> None:
        """Load what `checkpoint()` returned. The optimizers' settings stay those of the configuration.

        Only their learning rates do not, since a callback may have changed them.
        """
        for name, network in self.networks.items():
            network.load_state_dict(checkpoint[name])
        for name, optimizer in self.optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            groups[0]["lr"] = checkpoint[name]["param_groups"][0]["lr"]
            optimizer.load_state_dict({"state": checkpoint[name]["state"], "param_groups": groups})
            _lay_out_moments(optimizer)
        self.step = checkpoint["step"]

    def average_statistics(self) -> None:
        """Replace batch norm's running statistics, which each process takes from its own images, by their mean."""
        networks = [n for n in (self.generator, self.generator_ema) if n is not None]
        average([b for n in networks for name, b in n.named_buffers() if "running_" in name])


def build_state(config: Config, device: torch.device, dtype: torch.dtype) -> TrainState:
    """Return a new state on a device, with activations of `dtype`. `config.data.num_classes` must be a number."""
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
        generator_weights=Weights(generator),
        discriminator_weights=Weights(discriminator),
        moving_average=None if generator_ema is None else MovingAverage(generator_ema, generator),
    )


def _adam(network: nn.Module, lr: float, config: OptimizerConfig) -> torch.optim.Adam:
    return Adam(network.parameters(), lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def _lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer's averages the memory layout of their weights: its kernel reads both in memory order."""
    for weight, averages in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if averages[name].stride() != weight.stride():
                averages[name] = torch.empty_like(weight).copy_(averages[name])
