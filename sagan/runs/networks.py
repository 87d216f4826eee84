"""Trained networks rebuilt from a file alone: a run directory, a checkpoint, or exported weights."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from sagan.attention import import_modules, is_loaded
from sagan.config import Config, ConfigError, DataConfig, UntrustedCode, UserError, to_config
from sagan.config.dotted import is_dotted, module_of
from sagan.data.own import is_imported
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import Origin
from sagan.models.sizes import split_size
from sagan.runs.checkpoints import checkpoint_config, find_checkpoint, load_checkpoint
from sagan.runs.contents import check_names, check_step, check_weights
from sagan.runs.hub_download import fetch, is_address
from sagan.runtime.files import write_atomically

Network = TypeVar("Network", Generator, Discriminator)
Name = Literal["generator", "discriminator"]


class Saved(NamedTuple):
    """A network as stored in a file."""

    path: Path
    network: Name
    origin: Origin
    weights: dict[str, Tensor]
    data: dict[str, Any]
    """What the file says about its training images; empty for exported weights and checkpoints of older versions."""


def load_generator(
    path: str | Path,
    *,
    checkpoint: str | None = None,
    ema: bool = True,
    device: torch.device | str = "cpu",
    trust_module: str | Sequence[str] = (),
) -> Generator:
    """Load the generator of a run (its newest checkpoint), of a checkpoint file, or of exported safetensors.

    Exported weights may be on the Hugging Face Hub: hf://user/name, pinned as hf://user/name@COMMIT#SHA256.
    `checkpoint` is "best" or a file of the run. `ema` selects the moving average of the weights if there is one. The
    network is in evaluation mode, without gradients; `generator.origin` says where its weights come from.

    A file may name an attention kind from outside this package, whose code runs when the file is loaded. To allow that,
    give the name of its module, or several names, as `trust_module`, or import the class first.

    Raise UserError, naming the file, if it is missing or cannot be read, or names code that is not trusted.
    """
    trust(trust_module)
    return built_generator(saved_generator(path, checkpoint, ema), device)


def saved_generator(path: str | Path, checkpoint: str | None = None, ema: bool = True) -> Saved:
    """Return what the file of `load_generator` holds. Raise UserError, naming the file, if it cannot be read."""
    return _find(_located(path), "generator", checkpoint, ema)


def built_generator(saved: Saved, device: torch.device | str) -> Generator:
    """Return the generator that a file describes. Raise UserError as `load_generator` does."""
    return _install(saved, build_generator, device)


def load_discriminator(
    path: str | Path,
    *,
    checkpoint: str | None = None,
    device: torch.device | str = "cpu",
    trust_module: str | Sequence[str] = (),
) -> Discriminator:
    """Load the discriminator that was trained with the generator that `load_generator` returns for these arguments.

    For an exported generator it is discriminator.safetensors in the same folder. The network is in evaluation mode,
    without gradients; `discriminator.origin` says where its weights come from. `trust_module` is as in
    `load_generator`.

    Raise UserError, naming the file, if it is missing or cannot be read, or names code that is not trusted.
    """
    trust(trust_module)
    saved = _find(_located(path, "discriminator"), "discriminator", checkpoint, ema=False)
    return _install(saved, build_discriminator, device)


def trust(modules: str | Sequence[str]) -> None:
    """Import the modules whose attention kinds a file may name. Raise ConfigError if one cannot be imported."""
    import_modules([modules] if isinstance(modules, str) else modules)


def load_run_config(run: str | Path, checkpoint: str | None = None) -> Config:
    """Load the configuration that a run's networks were trained with. Raise UserError, naming the file."""
    path = _located(run)
    if path.suffix == ".safetensors":
        return _read_export(path, "generator", checkpoint).origin.config
    file = find_checkpoint(path, checkpoint)
    return checkpoint_config(load_checkpoint(file), file)


def require_trusted_source(data: DataConfig, run: str | Path) -> None:
    """Raise UntrustedCode if a run names a data source from outside this package whose class is not imported yet."""
    if is_dotted(data.source) and not is_imported(data.source):
        module = module_of(data.source)
        what = f"{run}: names the data source {data.source}, and opening it would run the module {module}"
        raise UntrustedCode(what, [module])


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


def export(run_or_file: str | Path, out: Path, checkpoint: str | None = None) -> list[Path]:
    """Write G (its moving average if there is one) and D as generator.safetensors and discriminator.safetensors.

    The files' metadata holds the configuration, the step and the class names. Return the files. Raise UserError as
    `load_generator` does: weights that do not fit are not exported.
    """
    from safetensors.torch import save

    if is_address(run_or_file) or Path(run_or_file).suffix == ".safetensors":
        raise ConfigError(f"{run_or_file}: is exported already; expected a run directory or a checkpoint")
    path = find_checkpoint(run_or_file, checkpoint)
    networks = [_read_checkpoint(path, name, ema=True) for name in get_args(Name)]
    _fitting(networks[0], build_generator)
    _fitting(networks[1], build_discriminator)
    written = []
    for _, name, origin, weights, _ in networks:
        facts = {"config": asdict(origin.config), "step": origin.step, "weights": f"{name}{'_ema' * origin.averaged}"}
        if origin.class_names is not None:
            facts["class_names"] = origin.class_names
        tensors = {name: t.contiguous() for name, t in weights.items()}
        blob = save(tensors, metadata={"sagan": json.dumps(facts)})
        written.append(out / f"{name}.safetensors")
        write_atomically(written[-1], lambda file, blob=blob: file.write(blob))
    return written


def _located(run: str | Path, network: Name = "generator") -> Path:
    """Return the path that a RUN means, downloaded if it is an address on the Hub. Raise UserError as `fetch` does."""
    return fetch(str(run), f"{network}.safetensors") if is_address(run) else Path(run)


def _find(path: Path, network: Name, checkpoint: str | None, ema: bool) -> Saved:
    if path.suffix != ".safetensors":
        return _read_checkpoint(find_checkpoint(path, checkpoint), network, ema)
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
    if saved.origin.averaged and not ema:
        raise ConfigError(f"ema false: {path} holds the moving average only; give the run or a checkpoint")
    return saved


def _read_checkpoint(path: Path, network: Name, ema: bool) -> Saved:
    content = load_checkpoint(path)
    averaged = ema and f"{network}_ema" in content
    kind = f"{network}_ema" if averaged else network
    if kind not in content:
        raise UserError(f"{path}: holds no {network}")
    data = content.get("data", {})
    config = checkpoint_config(content, path)
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


def require_trust(config: Config, network: Name, path: Path) -> None:
    """Raise UntrustedCode if the attention kind that a file names for a network has not been imported yet."""
    kinds = {name: getattr(config.model, name).attention.kind for name in get_args(Name)}
    modules = {kind: module_of(kind) for kind in kinds.values() if not is_loaded(kind)}
    if module := modules.get(kinds[network]):  # without one, `resolve` refuses the kind
        what = f"{path}: names the attention kind {kinds[network]}, and loading it would run the module {module}"
        raise UntrustedCode(what, sorted(set(filter(None, modules.values()))))


def _fitting(saved: Saved, build: Callable[[Config], Network]) -> None:
    """Raise UserError unless a file's weights fit the network that it describes. The check takes no memory."""
    require_trust(saved.origin.config, saved.network, saved.path)
    try:
        skeleton = build_skeleton(build, saved.origin.config)
    except ConfigError as error:
        raise UserError(f"{saved.path}: the configuration in it is damaged: {error}") from error
    try:
        check_weights(saved.weights, skeleton)
    except ValueError as error:
        raise UserError(f"{saved.path}: the weights do not fit the configuration: {error}") from error


def _install(saved: Saved, build: Callable[[Config], Network], device: torch.device | str) -> Network:
    """Return a network with the weights of a file. Raise UserError if they do not fit."""
    _fitting(saved, build)
    network = build(saved.origin.config)
    network.load_state_dict(saved.weights)
    network.origin = saved.origin
    return network.to(device).eval().requires_grad_(False)
