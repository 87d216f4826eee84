"""Trained networks from their file alone, and images of a generator, each a function of (seed, index)."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sagan.checkpoint import find_checkpoint, load_checkpoint, write_atomically
from sagan.config import Config, ConfigError, EvaluationConfig, UserError
from sagan.images import to_uint8
from sagan.models.build import build_discriminator, build_generator
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.layers import BatchNorm
from sagan.parsing import to_config
from sagan.random import labels, latents


def load_generator(
    path: str | Path, *, checkpoint: str | None = None, ema: bool = True, device: torch.device | str = "cpu"
) -> Generator:
    """The generator of a run (its newest checkpoint), of a checkpoint file, or of an exported safetensors file.

    `checkpoint` is "best" or a file of the run; `ema` chooses the moving average of the weights where there is one.
    In evaluation mode, without gradients; its configuration is `generator.config`, its step `generator.step`, and
    `generator.is_ema` says whether its weights are averages.

    Raises UserError, naming the file, where there is none or it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        config, step, weights, is_ema = _read_export(path, "generator", checkpoint)
        if is_ema and not ema:
            raise ConfigError(f"ema false: {path} holds the moving average only; give the run or a checkpoint")
    else:
        path = find_checkpoint(path, checkpoint)
        content = load_checkpoint(path, device)
        config, step = to_config(content["config"]), content["step"]
        is_ema = ema and "generator_ema" in content
        weights = content["generator_ema" if is_ema else "generator"]
    generator = _ready(build_generator(config), weights, path, device)
    generator.config, generator.step, generator.is_ema = config, step, is_ema
    return generator


def load_discriminator(
    path: str | Path, *, checkpoint: str | None = None, device: torch.device | str = "cpu"
) -> Discriminator:
    """The discriminator that was trained with `load_generator`'s generator of the same arguments.

    Of an exported generator it is discriminator.safetensors in the same folder. In evaluation mode, without gradients.

    Raises UserError, naming the file, where there is none or it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        path = path.with_name("discriminator.safetensors")
        config, _, weights, _ = _read_export(path, "discriminator", checkpoint)
    else:
        path = find_checkpoint(path, checkpoint)
        content = load_checkpoint(path, device)
        if "discriminator" not in content:
            raise UserError(f"{path}: holds no discriminator")
        config, weights = to_config(content["config"]), content["discriminator"]
    return _ready(build_discriminator(config), weights, path, device)


def load_run_config(run: str | Path, checkpoint: str | None = None) -> Config:
    """The configuration that a RUN argument's networks were trained with. Raises UserError, naming the file."""
    path = Path(run)
    if path.suffix == ".safetensors":
        return _read_export(path, "generator", checkpoint)[0]
    return to_config(load_checkpoint(find_checkpoint(path, checkpoint))["config"])


def _ready(network: nn.Module, weights: dict[str, Tensor], path: Path, device: torch.device | str) -> nn.Module:
    """The network with these weights of a file, for use. Raises UserError where they do not fit."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: its weights do not fit its configuration: {' '.join(str(error).split())}") from error
    return network.to(device).eval().requires_grad_(False)


def run_directory(run: str | Path) -> Path | None:
    """The run directory that a RUN argument is, or lies in; None for a file on its own."""
    path = Path(run)
    parent = path.parent.parent
    within = path.parent.name == "checkpoints" and (parent / "config.yaml").is_file()
    return path if path.is_dir() else parent if within else None


def image_sampler(
    generator: Generator, seed: int, truncation: float = 0.0
) -> Callable[[int, int, Tensor | None], Tensor]:
    """sample(start, stop, y) -> uint8 images (stop - start, C, H, W), on the generator's device.

    z is drawn per sample index, so neither batch size nor number of processes changes an image.
    """
    device = next(generator.parameters()).device

    @torch.no_grad()
    def sample(start: int, stop: int, y: Tensor | None) -> Tensor:
        z = latents(seed, "sample", start, stop, generator.z_dim, truncation).to(device)
        return to_uint8(generator(z, None if y is None else y.to(device)))

    return sample


@torch.no_grad()
def set_standing_statistics(generator: Generator, batches: int, batch_size: int, seed: int) -> None:
    """Replaces the running statistics of batch norm by their mean over `batches` fresh batches of generated images.

    Source: Brock et al. 2019, section 3 ("standing statistics"): the running ones lag behind the weights.
    """
    norms = [m for m in generator.modules() if isinstance(m, BatchNorm)]
    momenta = [m.momentum for m in norms]
    device = next(generator.parameters()).device
    generator.train()
    for i in range(batches):
        for norm in norms:
            norm.momentum = 1 / (i + 1)  # the mean of all batches so far
        start = i * batch_size
        y = labels(seed, "standing labels", start, start + batch_size, generator.num_classes)
        z = latents(seed, "standing", start, start + batch_size, generator.z_dim).to(device)
        generator(z, None if y is None else y.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()


def take_statistics(generator: Generator, config: EvaluationConfig) -> str:
    """Gives batch norm the statistics that `config` asks for; what they are, for the protocol of a score."""
    batches, batch_size = config.standing_statistics, config.batch_size
    if batches == 0:
        return "running"
    set_standing_statistics(generator, batches, batch_size, config.seed)
    return f"standing over {batches} batches of {batch_size}"


def export(run_or_file: str | Path, out: Path, checkpoint: str | None = None) -> list[Path]:
    """Writes the weights of G (its moving average where there is one) and D as safetensors, their configuration and
    step in the files' metadata. Returns the files: generator.safetensors, discriminator.safetensors."""
    from safetensors.torch import save

    content = load_checkpoint(find_checkpoint(run_or_file, checkpoint))
    weights = {"generator": "generator_ema" if "generator_ema" in content else "generator"}
    weights["discriminator"] = "discriminator"
    written = []
    for network, kind in weights.items():
        tensors = {name: t.contiguous() for name, t in content[kind].items()}
        about = json.dumps({"config": content["config"], "step": content["step"], "weights": kind})
        blob = save(tensors, metadata={"sagan": about})
        written.append(out / f"{network}.safetensors")
        write_atomically(written[-1], lambda file, blob=blob: file.write(blob))
    return written


def _read_export(path: Path, network: str, checkpoint: str | None) -> tuple[Config, int, dict[str, Tensor], bool]:
    from safetensors import SafetensorError, safe_open

    if checkpoint is not None:
        raise ConfigError(f"checkpoint {checkpoint}: {path} is a file of its own, give the run to choose one")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["sagan"])
            weights = {name: file.get_tensor(name) for name in file.keys()}
        config, step, kind = to_config(about["config"]), about["step"], about["weights"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as exported weights: {error}") from error
    if not kind.startswith(network):
        raise UserError(f"{path}: holds the weights of a {kind}, expected a {network}")
    return config, step, weights, kind == "generator_ema"
