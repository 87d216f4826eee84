"""Trained networks rebuilt from a file alone: a run directory, a checkpoint, or exported weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

import torch

from sagan.attention import import_modules, is_loaded
from sagan.config import Config, ConfigError, DataConfig, UntrustedCode, UserError
from sagan.config.dotted import is_dotted, module_of
from sagan.data.own import is_imported
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runs.contents import check_weights
from sagan.runs.saved_networks import Name, Saved, saved_discriminator, saved_generator
from sagan.runtime.device import choose_device

Network = TypeVar("Network", Generator, Discriminator)


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
    network is in evaluation mode, without gradients; `generator.origin` says where its weights come from. The device
    "auto" is a GPU if there is one.

    A file may name an attention kind from outside this package, whose code runs when the file is loaded. To allow that,
    give the name of its module, or several names, as `trust_module`, or import the class first.

    Raise UserError, naming the file, if it is missing or cannot be read, or names code that is not trusted.
    """
    trust(trust_module)
    return built_generator(saved_generator(path, checkpoint, ema), device)


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
    return _install(saved_discriminator(path, checkpoint), build_discriminator, device)


def trust(modules: str | Sequence[str]) -> None:
    """Import the modules whose attention kinds a file may name. Raise ConfigError if one cannot be imported."""
    import_modules([modules] if isinstance(modules, str) else modules)


def require_trusted_source(data: DataConfig, run: str | Path) -> None:
    """Raise UntrustedCode if a run names a data source from outside this package whose class is not imported yet."""
    if is_dotted(data.source) and not is_imported(data.source):
        module = module_of(data.source)
        what = f"{run}: names the data source {data.source}, and opening it would run the module {module}"
        raise UntrustedCode(what, [module])


def require_trust(config: Config, network: Name, path: Path) -> None:
    """Raise UntrustedCode if the attention kind that a file names for a network has not been imported yet."""
    kinds = {name: getattr(config.model, name).attention.kind for name in get_args(Name)}
    modules = {kind: module_of(kind) for kind in kinds.values() if not is_loaded(kind)}
    if module := modules.get(kinds[network]):  # without one, `resolve` refuses the kind
        what = f"{path}: names the attention kind {kinds[network]}, and loading it would run the module {module}"
        raise UntrustedCode(what, sorted(set(filter(None, modules.values()))))


def require_fitting(saved: Saved, build: Callable[[Config], Network]) -> None:
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
    require_fitting(saved, build)
    network = build(saved.origin.config)
    network.load_state_dict(saved.weights)
    network.origin = saved.origin
    return network.to(choose_device("auto") if device == "auto" else device).eval().requires_grad_(False)
