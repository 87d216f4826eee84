"""The least memory that a run needs, measured on the meta device, whose tensors have shapes but no data."""

import torch
from torch import Tensor, nn

from sagan.attention import KINDS
from sagan.config import Config, ConfigError
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.runtime.memory import free_memory, require_memory

COPIES = 4  # per weight: the weight itself, its gradient and Adam's two averages
SAVED = 3  # of these are in a checkpoint, which stays in main memory until it is written


def require_memory_for(config: Config, device: torch.device, processes: int = 1) -> None:
    """Raise ConfigError if the networks, or the activations of one update, do not fit into the free memory.

    The number of classes must be known. `processes` share the batch and, on a CPU, the memory.
    """
    model, training = config.model, config.training
    if is_small(config, device):
        return
    sharing = processes if device.type == "cpu" else 1
    widths = (
        f"model.generator.channels {model.generator.channels}, model.generator.z_dim {model.generator.z_dim}, "
        f"model.discriminator.channels {model.discriminator.channels}"
    )
    try:
        networks = build_skeleton(build_generator, config), build_skeleton(build_discriminator, config)
    except ConfigError as error:  # a product of widths overflows 64 bits
        raise ConfigError(f"{widths}: {error}") from None
    once = sum(p.numel() * p.element_size() for n in networks for p in n.parameters())
    weights = COPIES * once * sharing + (SAVED * once if device.type == "cpu" else 0)  # one process saves
    require_memory(weights, device, widths)
    require_memory(
        weights + update_memory(config, processes, networks) * sharing,
        device,
        f"training.batch_size {training.batch_size} and training.micro_batches {training.micro_batches} with "
        f"{config.data.size[0]}x{config.data.size[1]} images",
    )


def memory_to_spare(config: Config, device: torch.device, processes: int) -> int:
    """Return the bytes of a GPU that images must leave free for an update; 0 if the run is small, and on a CPU."""
    return 0 if device.type != "cuda" or is_small(config, device) else update_memory(config, processes)


def update_memory(config: Config, processes: int, networks: tuple[nn.Module, nn.Module] | None = None) -> int:
    """Return the least bytes of activations that a process keeps in an update.

    For an attention kind from outside this package they are unknown, and the answer is 0.
    `networks` are G and D on the meta device, if they are at hand.
    """
    model, training = config.model, config.training
    if any(part.attention.kind not in KINDS for part in (model.generator, model.discriminator)):
        return 0  # its code may need values, and meta tensors have none
    networks = networks or (build_skeleton(build_generator, config), build_skeleton(build_discriminator, config))
    per_image = activation_bytes(config, *networks) // (1 if training.precision == "float32" else 2)
    return training.batch_size // (training.micro_batches * processes) * per_image


def is_small(config: Config, device: torch.device) -> bool:
    """Return whether a run is so small that measuring it, which takes half a second, is not worth it."""
    model, (height, width) = config.model, config.data.size
    widest = max(model.generator.channels, model.discriminator.channels)
    maps = 4 * 100 * config.training.batch_size * height * width * widest  # as if 100 maps were as large as images
    return widest <= 128 and model.generator.z_dim <= 4096 and maps < free_memory(device) / 4


def activation_bytes(config: Config, generator: nn.Module, discriminator: nn.Module) -> int:
    """Return how many bytes of float32 activations an update keeps for its backward pass, per image of the batch."""
    height, width = config.data.size

    def kept(n: int) -> int:
        with (d_update := _Kept()):  # real and generated images in one pass
            discriminator(torch.empty(2 * n, config.data.channels, height, width, device="meta"), labels(2 * n))
        with (g_update := _Kept()):
            discriminator(generator(torch.empty(n, config.model.generator.z_dim, device="meta"), labels(n)), labels(n))
        return max(d_update.bytes, g_update.bytes)

    def labels(n: int) -> Tensor | None:
        return torch.zeros(n, dtype=torch.long, device="meta") if config.data.num_classes else None

    return (kept(4) - kept(2)) // 2  # what does not grow with the batch is not an activation


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """The bytes of the tensors that autograd saves, each storage counted once."""

    def __init__(self):
        self.bytes = 0
        self.alive: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage  # otherwise its address could be reused
                self.bytes += storage.nbytes()
            return tensor

        super().__init__(pack, lambda tensor: tensor)
