"""Writing of a configuration as text, and the comparison of two configurations."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sagan.config.errors import ConfigError
from sagan.config.plain_yaml import load_yaml
from sagan.config.reading import flatten
from sagan.config.schema import Config
from sagan.config.types import as_text

MACHINE_OPTIONS = ("run_dir", "device", "data.path", "data.memory_gb", "data.workers")
"""Options that may differ between machines without making a run a different one."""
CHANGEABLE = (
    *MACHINE_OPTIONS,
    "training.steps",
    "training.performance",
    "evaluation.",
    "logging.",
    "checkpoint.",
)
"""Options that a resumed run may change; any other change makes it a different run."""


def to_yaml(config: Config) -> str:
    """Return the text of `config.yaml`, with one option per line."""
    return yaml.dump(asdict(config), Dumper=_Dumper, sort_keys=False)


def is_written(text: str) -> bool:
    """Return whether a text could be a `config.yaml` that a run has written, of any version: it has no comments."""
    try:
        content = load_yaml(text)
        same = yaml.dump(content, Dumper=_Dumper, sort_keys=False) == text
    except (yaml.YAMLError, RecursionError):
        return False
    return same and isinstance(content, dict) and {"run_dir", "data", "model", "training"} <= content.keys()


class _Dumper(yaml.SafeDumper):
    """Write lists as [64, 32]."""


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def same(key: str, old: Any, new: Any) -> bool:
    """Return whether two values of an option mean the same."""
    if key == "training.init_from" and old and new:
        return os.path.normpath(old) == os.path.normpath(new)
    return old == new


def refuse_changes(old: Config, new: Config, run_dir: Path) -> None:
    """Raise ConfigError, with both values, if a run with `old` may not be resumed with `new`."""
    before = dict(flatten(old))
    # An unreadable image is removed from a data set in memory, but replaced if images are read as needed.
    fixed = ("data.memory_gb",) if new.data.on_error == "skip" else ()
    changed = [
        f"  {key}: {as_text(before[key])} in the run, {as_text(value)} now"
        for key, value in flatten(new)
        if not same(key, before[key], value) and (key in fixed or not key.startswith(CHANGEABLE))
    ]
    if changed:
        lines = "\n".join(changed)
        raise ConfigError(
            f"{run_dir} cannot be resumed with another configuration:\n{lines}\n"
            "Give the old values, or another --run_dir for a new run."
        )
