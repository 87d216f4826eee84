"""What a file says about a trained network: a run directory, a checkpoint, or exported weights. Nothing is built."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from sagan.config import Config, ConfigError, UserError, to_config
from sagan.models.origin import Origin
from sagan.models.sizes import split_size
from sagan.runs.checkpoints import checkpoint_config, find_checkpoint, load_checkpoint
from sagan.runs.contents import check_names, check_step
from sagan.runs.hub_download import fetch, is_address

Name = Literal["generator", "discriminator"]


class Saved(NamedTuple):
    """A network as stored in a file."""

    path: Path
    network: Name
    origin: Origin
    weights: dict[str, Tensor]
    data: dict[str, Any]
    """What the file says about its training images; empty for exported weights and checkpoints of older versions."""


def saved_generator(path: str | Path, checkpoint: str | None = None, ema: bool | None = True) -> Saved:
    """Return what the file of `load_generator` holds. Raise UserError, naming the file, if it cannot be read.

    If `ema` is None, the run's own evaluation decides.
    """
    return _find(_located(path), "generator", checkpoint, ema)


def saved_discriminator(path: str | Path, checkpoint: str | None = None) -> Saved:
    """Return what the file of `load_discriminator` holds. Raise UserError, naming the file, if it cannot be read."""
    return _find(_located(path, "discriminator"), "discriminator", checkpoint, ema=False)


def load_run_config(run: str | Path, checkpoint: str | None = None) -> Config:
    """Load the configuration that a run's networks were trained with. Raise UserError, naming the file."""
    path = _located(run)
    if path.suffix == ".safetensors":
        return _read_export(path, "generator", checkpoint).origin.config
    file = find_checkpoint(path, checkpoint)
    return checkpoint_config(load_checkpoint(file), file)


def load_weights(run: str | Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Load the step and the weights of G and, if present, D. No network is built, so no code of an attention kind runs.

    From a run or checkpoint, G is the trained network itself. Exported weights hold its moving average if there was
    one. Raise UserError, naming the file, if it is missing or cannot be read.
    """
    path = _located(run)
    if path.suffix != ".safetensors":
        content = load_checkpoint(find_checkpoint(path))
        return content["step"], {name: content[name] for name in ("generator", "discriminator") if name in content}
    generator = _read_export(path, "generator", None)
    beside = _located(run, "discriminator").with_name("discriminator.safetensors")
    weights = {"generator": generator.weights}
    if beside.is_file():
        weights["discriminator"] = _read_export(beside, "discriminator", None).weights
    return generator.origin.step, weights


def holds_discriminator(run: str | Path, checkpoint: str | None = None) -> bool:
    """Return whether `load_discriminator` finds a discriminator. Raise UserError, as it does, for a damaged file."""
    path = _located(run, "discriminator")
    if path.suffix == ".safetensors":
        return path.with_name("discriminator.safetensors").is_file()
    return "discriminator" in load_checkpoint(find_checkpoint(path, checkpoint))


def _located(run: str | Path, network: Name = "generator") -> Path:
    """Return the path that a RUN means, downloaded if it is an address on the Hub. Raise UserError as `fetch` does.

    Raise ConfigError if it is no path.
    """
    if not isinstance(run, (str, os.PathLike)):
        raise ConfigError(f"run {type(run).__name__}: expected the path of a run, a checkpoint or exported weights")
    return fetch(str(run), f"{network}.safetensors") if is_address(run) else Path(run).expanduser()


def _find(path: Path, network: Name, checkpoint: str | None, ema: bool | None) -> Saved:
    if path.suffix != ".safetensors":
        return saved_in_checkpoint(find_checkpoint(path, checkpoint), network, ema)
    given = path
    if network == "discriminator":
        path = path.with_name("discriminator.safetensors")
    saved = _read_export(path, network, checkpoint)
    if given != path and given.is_file():
        origin = _read_export(given, "generator", checkpoint, tensors=False).origin
        if (origin.step, origin.config) != (saved.origin.step, saved.origin.config):
            raise UserError(
                f"{path}: of another export than {given.name} beside it (step {saved.origin.step}, not {origin.step}); "
                "export both again"
            )
    if saved.origin.averaged and not _average_wanted(ema, saved.origin.config):
        raise ConfigError(f"ema false: {path} holds the moving average only; give the run or a checkpoint")
    return saved


def _average_wanted(ema: bool | None, config: Config) -> bool:
    return config.evaluation.ema if ema is None else ema


def saved_in_checkpoint(path: Path, network: Name, ema: bool | None) -> Saved:
    """Return what a checkpoint holds of a network. Raise UserError, naming it, if it is damaged or lacks it."""
    content = load_checkpoint(path)
    config = checkpoint_config(content, path)
    averaged = _average_wanted(ema, config) and f"{network}_ema" in content
    kind = f"{network}_ema" if averaged else network
    if kind not in content:
        raise UserError(f"{path}: holds no {network}")
    data = content.get("data", {})
    try:
        origin = _origin(config, content["step"], averaged, data.get("class_names"))
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from error
    return Saved(path, network, origin, content[kind], data)


def _read_export(path: Path, network: Name, checkpoint: str | None, tensors: bool = True) -> Saved:
    from safetensors import SafetensorError, safe_open

    if checkpoint is not None:
        raise ConfigError(f"checkpoint {checkpoint}: {path} is a single file; give the run to choose a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["sagan"])
            weights = {name: file.get_tensor(name) for name in (file.keys() if tensors else ())}
        kind = facts["weights"]
        config, step, names = to_config(facts["config"]), check_step(facts["step"]), facts.get("class_names")
        split_size(config.data.size)
        origin = _origin(config, step, kind.endswith("_ema"), names)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as exported weights: {error}") from error
    if not kind.startswith(network):
        raise UserError(f"{path}: holds the weights of a {kind}, expected a {network}")
    return Saved(path, network, origin, weights, {})


def _origin(config: Config, step: int, averaged: bool, names: Sequence[str] | None) -> Origin:
    """Return the origin of a file's weights. Raise ValueError if `names` does not fit the classes."""
    if names is not None:
        check_names(names, "class_names", config.data.num_classes)
    return Origin(config, step, averaged, None if names is None else tuple(names))
