"""A plan: a base preset, named variants of it, seeds, and how they are scored. Importing this imports no torch."""

import hashlib
import itertools
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from sagan.config import Config, ConfigError, Setting, flatten
from sagan.presets import load_settings

NETWORKS = ("generator", "discriminator")
# What may differ between two machines without making another run of it.
INCIDENTAL = ("run_dir", "device", "data.path", "data.memory_gb", "data.workers", "logging.", "checkpoint.",
              "evaluation.batch_size", "evaluation.extractor.weights")  # fmt: skip


@dataclass(frozen=True, eq=False)  # a run equals itself alone; its lists have no hash
class Job:
    """One run of a plan: a variant with a seed."""

    variant: str
    seed: int
    config: Config
    arguments: tuple[str, ...]
    """Of the command `sagan` that trains and evaluates it."""
    processes: int = 1
    """That share the run; more than one are started by torchrun."""

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run_dir)

    @property
    def module(self) -> tuple[str, ...]:
        """What a Python interpreter runs as `-m ...`, with its arguments."""
        if self.processes == 1:
            return ("sagan", *self.arguments)
        launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", str(self.processes))
        return (*launcher, "-m", "sagan", *self.arguments)

    @property
    def steps(self) -> int:
        return self.config.training.steps

    @property
    def digest(self) -> str:
        """Of all that a score of this run depends on but its data and program: twelve hexadecimal digits."""
        return hashlib.sha256(json.dumps(essentials(self.config)).encode()).hexdigest()[:12]

    def is_run_of(self, config: Config) -> bool:
        """Whether a run of `config`, whose number of classes is known by now, is this one, however far it went."""
        if self.config.data.num_classes is None:
            config = replace(config, data=replace(config.data, num_classes=None))
        config = replace(config, training=replace(config.training, steps=self.steps))
        return essentials(config) == essentials(self.config)


def essentials(config: Config) -> list[tuple[str, Any]]:
    """The options of a run that its scores depend on."""
    return [(key, value) for key, value in flatten(config) if not key.startswith(INCIDENTAL)]


@dataclass(frozen=True)
class Plan:
    """A question, and the runs that answer it: the fields are the keys of a plan.yaml.

    Settings are options of `sagan train` by their dotted names; `model.*.` before a name means both networks. Later
    ones win: those of the preset, of the plan, of the size, of the command line, of the variant.
    """

    question: str
    """In words, for the report."""
    preset: str
    """What all runs start from: a preset's name or a YAML file."""
    baseline: str
    """The variant that all others are compared with, seed by seed."""
    metric: str
    """The score that plots and verdicts are about, such as kid_mean_efficientnet_lite0."""
    seeds: list[int]
    """Of each variant."""
    variants: dict[str, dict[str, Any]]
    """Name -> its settings."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of all runs."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """The protocol: options of the section `evaluation`; `every` also gives the points of the curves."""
    processes: int = 1
    """That share each run, with a GPU each where there are GPUs."""
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> `metric`, `seeds`, `processes` that replace those above; `settings`, `evaluation`, `variants` that add
    to them. The first is the default."""
    file: Path = Path("plan.yaml")
    size: str | None = None
    """The size that was chosen."""

    @property
    def name(self) -> str:
        """Of the folder that the plan lies in."""
        return self.file.resolve().parent.name

    @property
    def folder(self) -> Path:
        """Where tables and report go: beside the plan for its default size, else in a folder named after the size."""
        default = next(iter(self.sizes), None)
        return self.file.parent if self.size == default else self.file.parent / self.size


GIVEN = {f.name for f in fields(Plan)} - {"file", "size"}
NEEDED = ("question", "preset", "baseline", "metric", "seeds", "variants")


def load_plan(file: Path, size: str | None = None) -> Plan:
    """The plan of a file, in one of its sizes. Raises ConfigError, naming file and key, for what is wrong in it."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as a plan: {' '.join(str(error).split())}") from None
    content = _mapping(content, f"{file}", "keys of a plan")
    for key in content:
        if key not in GIVEN:
            raise ConfigError(f"{file}: {key}: there is no such key; a plan has {', '.join(sorted(GIVEN))}")
    for key in NEEDED:
        if key not in content:
            raise ConfigError(f"{file}: {key}: is missing")
    plan = Plan(**{**content, "file": file})
    for key in ("settings", "evaluation", "sizes", "variants"):
        _mapping(getattr(plan, key), f"{file}: {key}", "a mapping")
    plan = _in_size(plan, size)
    for name in plan.variants:
        if not isinstance(name, str) or not name or name.startswith(".") or "/" in name or "\\" in name:
            raise ConfigError(f"{file}: variants: {name!r}: expected a name that can be that of a folder")
    if plan.baseline not in plan.variants:
        raise ConfigError(f"{file}: baseline {plan.baseline}: expected one of {', '.join(plan.variants)}")
    require_seeds(plan.seeds, f"{file}: ")
    if not isinstance(plan.processes, int) or plan.processes < 1:
        raise ConfigError(f"{file}: processes {plan.processes}: expected a number above 0")
    return plan


def _in_size(plan: Plan, size: str | None) -> Plan:
    if size is None:
        size = next(iter(plan.sizes), None)
    if size is None:
        return plan
    if size not in plan.sizes:
        raise ConfigError(f"--size {size}: {plan.file} has {', '.join(plan.sizes) or 'no sizes'}")
    where = f"{plan.file}: sizes.{size}"
    change = _mapping(plan.sizes[size] or {}, where, "a mapping")
    replaced, added = ("metric", "seeds", "processes"), ("settings", "evaluation", "variants")
    for key in change:
        if key not in (*replaced, *added):
            raise ConfigError(f"{where}.{key}: expected one of {', '.join((*replaced, *added))}")
    own = {key: change[key] for key in replaced if key in change}
    own |= {k: getattr(plan, k) | _mapping(change.get(k) or {}, f"{where}.{k}", "a mapping") for k in added}
    return replace(plan, size=size, **own)


def require_seeds(seeds: Any, where: str) -> None:
    """Raises ConfigError for what is no list of seeds."""
    numbers = isinstance(seeds, list) and all(isinstance(s, int) and s >= 0 for s in seeds)
    if not numbers or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}seeds {seeds}: expected a list of different numbers from 0")


def plan_jobs(plan: Plan, overrides: list[Setting]) -> list[Job]:
    """Every run of a plan, in the order to take them: all variants of the first seed, then of the second, so that what
    is there at any time can be compared. `overrides` come from the command line.

    Raises ConfigError where the configuration of any variant is wrong, naming the plan and the variant.
    """
    where = f"{plan.file}: "
    shared = [Setting(key, value, where) for key, value in plan.settings.items()]
    shared += [Setting(f"evaluation.{key}", value, where) for key, value in plan.evaluation.items()]
    made = {v: variant_config(plan, v, [*shared, *overrides]) for v in plan.variants}
    jobs = []
    for seed, (variant, (config, arguments)) in itertools.product(plan.seeds, made.items()):
        run_dir = "/".join(["runs", plan.name, *([plan.size] if plan.size else []), variant, f"seed-{seed}"])
        config = replace(config, run_dir=run_dir, training=replace(config.training, seed=seed))
        own = ("--training.seed", str(seed), "--run_dir", run_dir)
        jobs.append(Job(variant, seed, config, ("train", plan.preset, *arguments, *own), plan.processes))
    return jobs


def variant_config(plan: Plan, variant: str, shared: list[Setting]) -> tuple[Config, tuple[str, ...]]:
    """The configuration of a variant, and the options that give it to `sagan train`. Raises as `plan_jobs` does."""
    where = f"{plan.file}: variants.{variant}"
    changes = _mapping(plan.variants[variant] or {}, where, "a mapping")
    settings = [*shared, *(Setting(key, value, f"{where}: ") for key, value in changes.items())]
    settings = [s for setting in settings for s in both_networks(setting)]
    try:
        config = load_settings(plan.preset, settings)
        require_metric(config, plan)
    except ConfigError as error:  # a contradiction names options, not where they came from
        text = str(error)
        raise ConfigError(text if text.startswith((str(plan.file), "--")) else f"{where}: {text}") from None
    last = {s.key: s.value for s in settings}  # each option once, as it counts
    return config, tuple(word for key, value in last.items() for word in (f"--{key}", as_text(value)))


def both_networks(setting: Setting) -> list[Setting]:
    """A setting of `model.*.x` as one for each network; any other as it is."""
    if not setting.key.startswith("model.*."):
        return [setting]
    return [setting._replace(key=setting.key.replace("*", network, 1)) for network in NETWORKS]


def require_metric(config: Config, plan: Plan) -> None:
    """Raises ConfigError for a run that would end without the score that the plan is about."""
    from sagan.evaluation.scores import MEASURES, suffix  # slow: torch

    if config.evaluation.every == 0:
        raise ConfigError(
            f"{plan.file}: evaluation.every 0: expected a number of steps; the last step is always scored"
        )
    known = [f"{name}{suffix(config.evaluation.extractor.name)}" for name in MEASURES]
    if plan.metric not in known:
        raise ConfigError(f"{plan.file}: metric {plan.metric}: expected one of {', '.join(known)}")


def as_text(value: Any) -> str:
    """A value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _mapping(value: Any, where: str, expected: str) -> dict:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected {expected}, given {value!r}")
    return value
