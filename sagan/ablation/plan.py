"""A plan: a base preset, named variants of it, seeds, how runs are scored and what is compared.

Importing this module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from sagan.config import ConfigError
from sagan.config.plain_yaml import read_yaml
from sagan.config.types import MOST_PROCESSES, shown
from sagan.presets import PACKAGE, PRESET_DIR
from sagan.runtime.wording import printable

MOST_DRAWS = 1000
MOST_PRIMARY = 3
"""Most comparisons that may get a verdict: each additional one would reduce the power of all."""


@dataclass(frozen=True)
class Plan:
    """A question and the runs that answer it. The fields are the keys of a plan's file.

    Settings are options of `sagan train` by their dotted names; `model.*.` before a name means both networks. Later
    ones override earlier ones, in this order: preset, plan, size, command line, variant.
    """

    question: str
    """The question, as text for the report."""
    preset: str
    """The preset or YAML file that all runs start from."""
    baseline: str
    """The variant that all others are compared with, seed by seed."""
    metric: str
    """The primary metric of verdicts and plots, such as kid_mean_efficientnet_lite0."""
    seeds: list[int]
    """Seeds of the baseline and the primary variants, and of all others unless `exploratory_seeds` is given."""
    variants: dict[str, dict[str, Any]]
    """Name -> its settings."""
    primary: list[str] | None = None
    """At most three variants whose comparison with the baseline gets a verdict; all others are exploratory. By default
    all variants, if there are at most three."""
    margin: float | None = None
    """Differences of the primary metric below this are too small to matter. Allows the verdict "equal"."""
    exploratory_seeds: list[int] | None = None
    """A subset of the seeds, for the variants that are not primary; null: all."""
    noise_draws: int = 1
    """How many times the final weights are scored, each time with new latent vectors. Above 1, the report separates
    evaluation noise from seed noise."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of every run."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """The protocol: options of the section `evaluation`. `every` also sets the points of the curves."""
    processes: int = 1
    """Number of processes of each run, with a GPU each if there are GPUs."""
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> keys that replace those above (REPLACED) or add to them (ADDED). The first is the default."""
    file: Path = Path("plan.yaml")
    size: str | None = None
    """The size that was chosen."""

    @property
    def name(self) -> str:
        """Return the folder of a plan.yaml, or the stem of any other file name."""
        file = self.file.resolve()
        return file.parent.name if file.stem == "plan" else file.stem

    @property
    def folder(self) -> Path:
        """Return the folder for tables and report. A size other than the default one has its own subfolder.

        It is the folder of `plan.yaml`, or `NAME/` beside `NAME.yaml`. For a plan of the installed package it is
        `NAME/` in the working directory.
        """
        if self.file.resolve().is_relative_to(PACKAGE.resolve()):
            home = Path(self.name)
        else:
            home = self.file.parent if self.file.stem == "plan" else self.file.parent / self.file.stem
        return home if self.size in (None, next(iter(self.sizes), None)) else home / str(self.size)

    @property
    def compared(self) -> list[str]:
        """Return the primary variants, with the default filled in."""
        if self.primary is not None:
            return self.primary
        others = [v for v in self.variants if v != self.baseline]
        return others if len(others) <= MOST_PRIMARY else []

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds that a variant is run with."""
        explored = variant != self.baseline and variant not in self.compared
        return self.exploratory_seeds if explored and self.exploratory_seeds else self.seeds


GIVEN = {f.name for f in fields(Plan)} - {"file", "size"}
NEEDED = ("question", "preset", "baseline", "metric", "seeds", "variants")
REPLACED = ("question", "metric", "seeds", "primary", "margin", "exploratory_seeds", "noise_draws", "processes")
ADDED = ("settings", "evaluation", "variants")


def plan_names() -> list[str]:
    """Return the names of the shipped plans."""
    return sorted(file.parent.name for file in PRESET_DIR.glob("*/plan.yaml"))


def plan_file(name: str) -> Path:
    """Return the file of a shipped plan, or of a path to a YAML file. Raise ConfigError if `name` is neither."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in plan_names():
        raise ConfigError(f"{name}: neither a YAML file nor a plan; the plans are {', '.join(plan_names())}")
    file = PRESET_DIR / name / "plan.yaml"
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def load_plan(file: Path, size: str | None = None) -> Plan:
    """Return the plan in a file, in one of its sizes. Raise ConfigError, naming file and key, if anything is wrong."""
    content = require_mapping(read_yaml(file, "a plan"), f"{file}", "keys of a plan")
    for key in content:
        if key not in GIVEN:
            raise ConfigError(f"{file}: {key}: unknown key; a plan has {', '.join(sorted(GIVEN))}")
    for key in NEEDED:
        if key not in content:
            raise ConfigError(f"{file}: {key}: missing")
    plan = Plan(**{**content, "file": file})
    for key in ("settings", "evaluation", "sizes", "variants"):
        require_mapping(getattr(plan, key), f"{file}: {key}", "a mapping")
    for name in plan.sizes:
        require_folder_name(name, f"{file}: sizes")
    plan = _in_size(plan, size)
    check_plan(plan)
    return plan


def _in_size(plan: Plan, size: str | None) -> Plan:
    if size is None:
        size = next(iter(plan.sizes), None)
    if size is None:
        return plan
    if size not in plan.sizes:
        raise ConfigError(f"--size {size}: {plan.file} has {', '.join(plan.sizes) or 'no sizes'}")
    where = f"{plan.file}: sizes.{size}"
    change = require_mapping(or_empty(plan.sizes[size]), where, "a mapping")
    for key in change:
        if key not in (*REPLACED, *ADDED):
            raise ConfigError(f"{where}.{key}: expected one of {', '.join((*REPLACED, *ADDED))}")
    if plan.margin is not None and "metric" in change and "margin" not in change:
        raise ConfigError(f"{where}.margin: missing: {plan.margin} is in units of {plan.metric} (null: no margin)")
    own = {key: change[key] for key in REPLACED if key in change}
    more = {k: require_mapping(or_empty(change.get(k)), f"{where}.{k}", "a mapping") for k in ADDED}
    own["variants"] = plan.variants | more["variants"]
    for k in ("settings", "evaluation"):  # those of the size come last: its model.*.x overrides model.generator.x, too
        own[k] = {key: value for key, value in getattr(plan, k).items() if key not in more[k]} | more[k]
    return replace(plan, size=size, **own)


def check_plan(plan: Plan) -> None:
    """Raise ConfigError, naming file and key, if values contradict each other or are out of range."""
    where = f"{plan.file}: "
    for name in plan.variants:
        require_folder_name(name, f"{where}variants")
    for key in ("question", "preset", "baseline", "metric"):
        if not isinstance(value := getattr(plan, key), str) or not value.strip():
            raise ConfigError(f"{where}{key} {value!r}: expected text")
    if plan.baseline not in plan.variants:
        raise ConfigError(f"{where}baseline {plan.baseline}: expected one of {', '.join(plan.variants)}")
    require_seeds(plan.seeds, f"{where}seeds")
    if plan.exploratory_seeds is not None:
        require_seeds(plan.exploratory_seeds, f"{where}exploratory_seeds", plan.seeds)
    require_primary(plan)
    for key, most in {"processes": MOST_PROCESSES, "noise_draws": MOST_DRAWS}.items():
        if not _is_int(value := getattr(plan, key)) or not 0 < value <= most:
            raise ConfigError(f"{where}{key} {value}: expected a number above 0, at most {most}")
    margin = plan.margin
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < inf):
        raise ConfigError(f"{where}margin {plan.margin}: expected a number above 0, in units of {plan.metric}")


def require_primary(plan: Plan) -> None:
    """Raise ConfigError if `primary` is not a list of at most MOST_PRIMARY variants other than the baseline."""
    if plan.primary is None:
        return
    others = [v for v in plan.variants if v != plan.baseline]
    if not isinstance(plan.primary, list) or any(v not in others for v in plan.primary):
        raise ConfigError(f"{plan.file}: primary {plan.primary}: expected a list of some of {', '.join(others)}")
    if len(plan.primary) > MOST_PRIMARY or len(set(plan.primary)) < len(plan.primary):
        raise ConfigError(f"{plan.file}: primary {plan.primary}: expected at most {MOST_PRIMARY} different variants")


def require_seeds(seeds: Any, where: str, known: Sequence[int] | None = None) -> None:
    """Raise ConfigError unless `seeds` is a list of different seeds, all among the `known` ones."""
    numbers = isinstance(seeds, list) and all(_is_int(s) and 0 <= s < 2**63 for s in seeds)
    if not numbers or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where} {shown(seeds)}: expected a list of different numbers from 0, of at most 63 bits")
    if known is not None and not set(seeds) <= set(known):
        raise ConfigError(f"{where} {seeds}: expected some of the plan's seeds, {', '.join(map(str, known))}")


def require_mapping(value: Any, where: str, expected: str) -> dict:
    """Return `value` if it is a mapping with names as keys, else raise ConfigError."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected {expected}, given {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{where}: {key!r}: expected a name; put it in quotes")
    return value


def require_folder_name(name: str, where: str) -> None:
    """Raise ConfigError unless a name can be that of a folder, and stand in plots, where $ begins a formula."""
    legible = printable(name, keep="") == name  # so it can also be written as UTF-8
    if not legible or not name or name.startswith(".") or len(name.encode()) > 100 or any(c in name for c in "/\\$"):
        raise ConfigError(f"{where}: {name!r}: expected a valid folder name, without $ and control characters")


def or_empty(value: Any) -> Any:
    """Return an empty mapping for a key without a value."""
    return {} if value is None else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
