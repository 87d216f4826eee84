"""Trained networks rebuilt from a file alone: a run directory, a checkpoint, or exported weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sagan.attention import import_modules, is_loaded
from sagan.config import Config, ConfigError, UntrustedCode, UserError, to_config
from sagan.models.build import build_discriminator, build_generator
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import Origin
from sagan.runs.checkpoints import checkpoint_config, find_checkpoint, load_checkpoint
from sagan.runtime.files import write_atomically

Network = TypeVar("Network", Generator, Discriminator)


class Saved(NamedTuple):
    """A network as stored in a file."""

    path: Path
    origin: Origin
    weights: dict[str, Tensor]


def load_generator(
    path: str | Path,
    *,
    checkpoint: str | None = None,
    ema: bool = True,
    device: torch.device | str = "cpu",
    trust_module: str | Sequence[str] = (),
) -> Generator:
    """Load the generator of a run (its newest checkpoint), of a checkpoint file, or of exported safetensors.

    `checkpoint` is "best" or a file of the run. `ema` selects the moving average of the weights if there is one. The
    network is in evaluation mode, without gradients; `generator.origin` says where its weights come from.

    A file may name an attention kind of one's own, whose code runs if it is loaded. Allow that by `trust_module`, the
    name of its module or several, or by importing the class first.

    Raise UserError, naming the file, if it is missing or cannot be read, or names code that is not trusted.
    """
    trust(trust_module)
    saved = _find(Path(path), "generator", checkpoint, ema)
    return _install(saved, _build(build_generator, saved, "generator"), device)


def load_discriminator(
    path: str | Path,
    *,
    checkpoint: str | None = None,
    device: torch.device | str = "cpu",
    trust_module: str | Sequence[str] = (),
) -> Discriminator:
    """Load the discriminator that was trained with the generator that `load_generator` returns for these arguments.

    For an exported generator it is discriminator.safetensors in the same folder. The network is in evaluation mode,
    without gradients; `discriminator.origin` says where its weights come from. `trust_module` is as there.

    Raise UserError, naming the file, if it is missing or cannot be read, or names code that is not trusted.
    """
    trust(trust_module)
    saved = _find(Path(path), "discriminator", checkpoint, ema=False)
    return _install(saved, _build(build_discriminator, saved, "discriminator"), device)


def trust(modules: str | Sequence[str]) -> None:
    """Import the modules whose attention kinds a file may name. Raise ConfigError if one cannot be imported."""
    import_modules([modules] if isinstance(modules, str) else modules)


def load_run_config(run: str | Path, checkpoint: str | None = None) -> Config:
    """Load the configuration that a run's networks were trained with. Raise UserError, naming the file."""
    path = Path(run)
    if path.suffix == ".safetensors":
        return _read_export(path, "generator", checkpoint).origin.config
    file = find_checkpoint(path, checkpoint)
    return checkpoint_config(load_checkpoint(file), file)


def load_data_facts(run: str | Path, checkpoint: str | None = None) -> dict:
    """Load what a checkpoint says of its data; empty for exported weights and checkpoints of older versions."""
    path = Path(run)
    if path.suffix == ".safetensors":
        return {}
    return load_checkpoint(find_checkpoint(path, checkpoint)).get("data", {})


def load_weights(run: str | Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Load the step and the weights of G and, if it is there, D. No network is built, so no code of a kind runs.

    G of a run or checkpoint is the network itself, of exported weights what they hold: the moving average if there was
    one. Raise UserError, naming the file, if it is missing or cannot be read.
    """
    path = Path(run)
    if path.suffix != ".safetensors":
        content = load_checkpoint(find_checkpoint(path))
        return content["step"], {name: content[name] for name in ("generator", "discriminator") if name in content}
    generator, beside = _read_export(path, "generator", None), path.with_name("discriminator.safetensors")
    weights = {"generator": generator.weights}
    if beside.is_file():
        weights["discriminator"] = _read_export(beside, "discriminator", None).weights
    return generator.origin.step, weights


def holds_discriminator(run: str | Path, checkpoint: str | None = None) -> bool:
    """Return whether `load_discriminator` finds a discriminator. Raise UserError, as it does, for a damaged file."""
    path = Path(run)
    if path.suffix == ".safetensors":
        return path.with_name("discriminator.safetensors").is_file()
    return "discriminator" in load_checkpoint(find_checkpoint(path, checkpoint))


def export(run_or_file: str | Path, out: Path, checkpoint: str | None = None) -> list[Path]:
    """Write G (its moving average if there is one) and D as generator.safetensors and discriminator.safetensors.

    The files' metadata holds the configuration, the step and the class names. Return the files.
    """
    from safetensors.torch import save

    content = load_checkpoint(find_checkpoint(run_or_file, checkpoint))
    facts = {"config": content["config"], "step": content["step"]}
    if "data" in content:
        facts["class_names"] = content["data"]["class_names"]
    weights = {"generator": "generator_ema" if "generator_ema" in content else "generator"}
    weights["discriminator"] = "discriminator"
    written = []
    for network, kind in weights.items():
        tensors = {name: t.contiguous() for name, t in content[kind].items()}
        blob = save(tensors, metadata={"sagan": json.dumps({**facts, "weights": kind})})
        written.append(out / f"{network}.safetensors")
        write_atomically(written[-1], lambda file, blob=blob: file.write(blob))
    return written


def _find(path: Path, network: str, checkpoint: str | None, ema: bool) -> Saved:
    if path.suffix != ".safetensors":
        return _read_checkpoint(find_checkpoint(path, checkpoint), network, ema)
    if network == "discriminator":
        path = path.with_name("discriminator.safetensors")
    saved = _read_export(path, network, checkpoint)
    if saved.origin.averaged and not ema:
        raise ConfigError(f"ema false: {path} holds the moving average only; give the run or a checkpoint")
    return saved


def _read_checkpoint(path: Path, network: str, ema: bool) -> Saved:
    content = load_checkpoint(path)
    averaged = ema and f"{network}_ema" in content
    kind = f"{network}_ema" if averaged else network
    if kind not in content:
        raise UserError(f"{path}: holds no {network}")
    names = content["data"]["class_names"] if "data" in content else None
    config = checkpoint_config(content, path)
    origin = Origin(config, content["step"], averaged, None if names is None else tuple(names))
    return Saved(path, origin, content[kind])


def _read_export(path: Path, network: str, checkpoint: str | None) -> Saved:
    from safetensors import SafetensorError, safe_open

    if checkpoint is not None:
        raise ConfigError(f"checkpoint {checkpoint}: {path} is a single file; give the run to choose a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["sagan"])
            weights = {name: file.get_tensor(name) for name in file.keys()}
        config, kind, names = to_config(facts["config"]), facts["weights"], facts.get("class_names")
        origin = Origin(config, facts["step"], kind.endswith("_ema"), None if names is None else tuple(names))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as exported weights: {error}") from error
    if not kind.startswith(network):
        raise UserError(f"{path}: holds the weights of a {kind}, expected a {network}")
    return Saved(path, origin, weights)


def _build(build: Callable[[Config], Network], saved: Saved, network: str) -> Network:
    """Return a new network for the weights of a file. Raise UserError if it would take code that nobody trusts."""
    config = saved.origin.config
    require_trust(config, network, saved.path)
    try:
        return build(config)
    except ConfigError as error:
        raise UserError(f"{saved.path}: the configuration in it is damaged: {error}") from error


def require_trust(config: Config, network: str, path: Path) -> None:
    """Raise UntrustedCode if a file names an attention kind for a network whose class is not imported yet."""
    kinds = {name: getattr(config.model, name).attention.kind for name in ("generator", "discriminator")}
    modules = {kind: kind.rpartition(".")[0] for kind in kinds.values() if not is_loaded(kind)}
    if module := modules.get(kinds[network]):  # without one, `resolve` refuses the kind
        what = f"{path}: names the attention kind {kinds[network]}, and loading it would run the module {module}"
        raise UntrustedCode(what, sorted(set(filter(None, modules.values()))))


def _install(saved: Saved, network: Network, device: torch.device | str) -> Network:
    """Load the weights of a file into a new network. Raise UserError if they do not fit."""
    try:
        network.load_state_dict(saved.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{saved.path}: the weights do not fit the configuration: {reason}") from error
    network.origin = saved.origin
    return network.to(device).eval().requires_grad_(False)
