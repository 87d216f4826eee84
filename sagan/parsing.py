"""From a preset or YAML file and dotted overrides to a checked `Config`, and back to text."""

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sagan.config import Config, ConfigError
from sagan.models.sizes import (
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    Size,
    attention_blocks,
    discriminator_block_sizes,
    generator_block_sizes,
    split_size,
)

PACKAGE = Path(__file__).parent
# An installed wheel carries the presets inside the package; a checkout has them beside it.
PRESET_DIR = next((d for d in (PACKAGE / "experiments", PACKAGE.parent / "experiments") if d.is_dir()), PACKAGE)

# What a resumed run may change; everything else makes another run.
CHANGEABLE = ("run_dir", "device", "data.path", "data.memory_gb", "data.workers", "training.steps", "evaluation.",
              "logging.", "checkpoint.")  # fmt: skip


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))


def config_file(name: str) -> Path:
    """The file of a preset name, or of a path. Raises ConfigError where there is neither."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    preset = PRESET_DIR / f"{name}.yaml"
    if preset.is_file():
        return preset
    raise ConfigError(f"{name}: neither a YAML file nor a preset; the presets are {', '.join(presets())}")


def new_parser(verb: Callable, **kwargs):
    """A jsonargparse parser whose help begins with the docstring of a verb; it has no options yet."""
    from jsonargparse import ArgumentParser, set_parsing_settings  # here: they take a tenth of a second

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    usage, _, description = inspect.getdoc(verb).partition("\n\n")
    prog = f"sagan {verb.__name__}"
    return ArgumentParser(
        prog=prog, usage=usage, description=description, exit_on_error=False, allow_abbrev=False, **kwargs
    )


def build_parser(verb: Callable, **kwargs):
    """`new_parser` with an option for each field of `Config`."""
    parser = new_parser(verb, **kwargs)
    parser.add_argument("--config", action="config", help="YAML file with options, read before those that follow it.")
    parser.add_class_arguments(Config, None)
    return parser


def split_name(arguments: list[str]) -> tuple[str | None, list[str]]:
    """A leading positional argument, None where there is none, and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def parse_options(parser, tokens: list[str]) -> dict[str, Any]:
    """The values of a parser's options, nested. Raises ConfigError, in one line, for what it does not accept."""
    from jsonargparse import ArgumentError

    try:
        return parser.parse_args(tokens).as_dict()
    except ArgumentError as error:
        raise ConfigError(_tidy(str(error))) from None


def load_config(name: str | None = None, overrides: list[str] | None = None) -> Config:
    """The configuration of a preset or YAML file, with overrides such as `model.generator.channels=32`.

    Raises ConfigError, naming the option, the value given and what was expected, for anything that text can show to be
    wrong: unknown keys, wrong types, sizes that do not exist, options that contradict each other.
    """
    return config_of(name, [f"--{override}" for override in overrides or []])


def config_of(name: str | None, tokens: list[str]) -> Config:
    """`load_config` for overrides in the form of the command line, `--key value` or `--key=value`."""
    file = config_file(name) if name else None
    config = parse([*(["--config", str(file)] if file else []), *tokens])
    if config.run_dir is None:
        config = replace(config, run_dir=f"runs/{file.stem if file else 'default'}")
    return check(config)


def parse(tokens: list[str]) -> Config:
    """Command-line tokens to a `Config`, not yet checked for contradictions. Raises ConfigError."""
    _refuse_unknown(tokens)
    return to_config(parse_options(build_parser(parse), tokens))


def to_config(values: dict[str, Any], cls: type = Config) -> Config:
    """A (nested) dataclass from a (nested) dictionary, as a checkpoint or `config.yaml` holds it."""
    known = {f.name: f.type for f in fields(cls)}
    nested = {k: to_config(v, known[k]) if is_dataclass(known[k]) and isinstance(v, dict) else v
              for k, v in values.items() if k in known}  # fmt: skip
    return cls(**nested)


def flatten(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every option, in order."""
    items = []
    for f in fields(config):
        value = getattr(config, f.name)
        key = f"{prefix}{f.name}"
        items += flatten(value, f"{key}.") if is_dataclass(value) else [(key, value)]
    return items


def to_yaml(config: Config) -> str:
    """The text of `config.yaml`."""
    return yaml.safe_dump(asdict(config), sort_keys=False, default_flow_style=None)


def refuse_changes(old: Config, new: Config, run_dir: Path) -> None:
    """Raises ConfigError, with both values, if `new` may not continue the run of `old`."""
    before = dict(flatten(old))
    changed = [
        f"  {key}: {before[key]} in the run, {value} now"
        for key, value in flatten(new)
        if before[key] != value and not key.startswith(CHANGEABLE)
    ]
    if changed:
        lines = "\n".join(changed)
        raise ConfigError(
            f"{run_dir} cannot be resumed with another configuration:\n{lines}\n"
            "Give the old values, or another --run_dir for a new run."
        )


def _known_keys(cls: type = Config, prefix: str = "") -> list[str]:
    keys = []
    for f in fields(cls):
        keys += _known_keys(f.type, f"{prefix}{f.name}.") if is_dataclass(f.type) else [f"{prefix}{f.name}"]
    return keys


def _refuse_unknown(tokens: list[str]) -> None:
    known = _known_keys()
    for i, token in enumerate(tokens):
        key = token[2:].split("=")[0]
        if token.startswith("--") and key == "config":
            file = token.split("=", 1)[1] if "=" in token else tokens[i + 1]
            _refuse_unknown_in_file(Path(file), known)
        elif token.startswith("--"):
            _refuse_unknown_key(key.removesuffix("+"), known, "")


def _refuse_unknown_in_file(file: Path, known: list[str]) -> None:
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected `section: {{key: value}}`, found {type(content).__name__}")
    stack = list(content.items())
    while stack:
        key, value = stack.pop(0)
        section = any(k.startswith(f"{key}.") for k in known)
        if section and isinstance(value, dict):
            stack += [(f"{key}.{k}", v) for k, v in value.items()]
        elif section:
            raise ConfigError(f"{file}: {key}: expected a section of options, given {value!r}")
        else:
            _refuse_unknown_key(str(key), known, f"{file}: ")


def _refuse_unknown_key(key: str, known: list[str], where: str) -> None:
    if key in known or any(key.startswith(f"{k}.") for k in known if k.endswith(".options")):
        return
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `sagan train --help` lists them"
    raise ConfigError(f"{where}{key}: there is no such option{hint}")


def _tidy(message: str) -> str:
    """jsonargparse's message on one line, with the option as a user types it."""
    message = re.sub(r"Parser key \"([^\"]+)\":\s*", r"\1: ", message)
    message = re.sub(r"<class '(\w+)'>", r"\1", message).replace("typing.", "")
    message = re.sub(r"Does not validate against any of the Union subtypes\s*Subtypes:(.*?)Errors:.*Given value: ",
                     r"expected one of\1. Got value: ", message, flags=re.S)  # fmt: skip
    return re.sub(r"\s+", " ", message).strip()


def check(config: Config) -> Config:
    """`config` itself, if nothing in it contradicts anything else in it. Raises ConfigError."""
    data, training = config.data, config.training
    if not isinstance(data.resolution, int) and len(data.resolution) != 2:
        raise ConfigError(f"data.resolution {data.resolution}: expected N or [H, W]")
    n, _ = split_size(data.size)
    _check_attention(config, "generator", generator_block_sizes(data.size), GENERATOR_WIDTHS[n][1])
    _check_attention(config, "discriminator", discriminator_block_sizes(data.size), DISCRIMINATOR_WIDTHS[n])
    _check_ranges(config)
    if training.batch_size % training.micro_batches:
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be split into training.micro_batches "
            f"{training.micro_batches} equal parts"
        )
    if data.source in ("folder", "packed") and not data.path:
        raise ConfigError(f"data.path: data.source {data.source} needs a folder, given {data.path}")
    return config


def _check_attention(config: Config, network: str, sizes: list[Size], multiples: tuple[int, ...]) -> None:
    """Builds the attention layers of a network where they will stand: each kind knows best what it cannot carry."""
    import torch

    from sagan.attention import Place, build_attention, resolve

    spec, option = getattr(config.model, network).attention, f"model.{network}.attention"
    resolve(spec, option)
    if spec.kind != "none":
        channels = getattr(config.model, network).channels
        with torch.random.fork_rng(devices=[]):
            for block, size in attention_blocks(sizes, spec.resolutions, f"{option}.resolutions").items():
                build_attention(spec, Place(multiples[block] * channels, size, False, batch_norm=False), option)


def _check_ranges(config: Config) -> None:
    values = dict(flatten(config))
    positive = [k for k in values if k.endswith((".channels", ".batch_size", "_lr", ".eps", "_eps", "_steps", "steps",
                                                 "z_dim", "micro_batches", ".keep", "num_samples", "memory_gb"))]  # fmt: skip
    for key in positive:
        if not values[key] > 0:
            raise ConfigError(f"{key} {values[key]}: expected a number above 0")
    for key in ("optimizer.beta1", "optimizer.beta2", "training.ema_decay", "model.generator.norm_momentum"):
        if not 0 <= values[key] < 1:
            raise ConfigError(f"{key} {values[key]}: expected 0 <= value < 1")
    for key, value in values.items():
        if key.endswith(("every", "ema_start", "workers", "num_classes", "standing_statistics", "num_real", "seed",
                         "truncation")):  # fmt: skip
            if value is not None and value < 0:
                raise ConfigError(f"{key} {value}: expected 0 or more")
    if config.logging.every == 0:
        raise ConfigError("logging.every 0: expected a number of steps above 0")
