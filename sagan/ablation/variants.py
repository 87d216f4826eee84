"""The runs of a plan: the configuration of each, and the command that trains it."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagan.ablation.plan import Plan, or_empty, require_mapping
from sagan.config import Config, ConfigError, Setting, flatten
from sagan.config.types import shown
from sagan.config.writing import MACHINE_OPTIONS
from sagan.presets import load_settings

SET_BY_PLAN = {"run_dir": "a plan gives each run a directory of its own", "training.seed": "the plan's seeds set it"}
NETWORKS = ("generator", "discriminator")
# Options that do not make a run a different one.
INCIDENTAL = (
    *MACHINE_OPTIONS,
    "logging.",
    "checkpoint.",
    "training.performance",
    "evaluation.batch_size",
    "evaluation.extractor.weights",
)
# Options added after results had been recorded, with their former implicit value: at that value they are ignored.
NEWER = {"training.init_from": None}


@dataclass(frozen=True, eq=False)  # a run equals only itself; its lists are not hashable
class Job:
    """One run of a plan: a variant with a seed."""

    variant: str
    seed: int
    config: Config
    arguments: tuple[str, ...]
    """Arguments of the `sagan` command that trains and evaluates it."""
    processes: int = 1
    """Processes that share the run. If there are several, torchrun starts them."""
    noise_draws: int = 1
    """How often the final weights are scored, each time with new latent vectors."""

    @property
    def run_dir(self) -> Path:
        """Return the folder of the run."""
        return Path(str(self.config.run_dir))

    @property
    def module(self) -> tuple[str, ...]:
        """Return the arguments of `python -m` that train and evaluate it."""
        if self.processes == 1:
            return ("sagan", *self.arguments)
        launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", str(self.processes))
        return (*launcher, "-m", "sagan", *self.arguments)

    @property
    def steps(self) -> int:
        """Return the number of training steps."""
        return self.config.training.steps

    @property
    def digest(self) -> str:
        """Return 12 hexadecimal digits that identify all that the run's scores depend on, except data and program."""
        return hashlib.sha256(json.dumps(essentials(self.config)).encode()).hexdigest()[:12]

    def is_run_of(self, config: Config) -> bool:
        """Return whether a run with `config`, which states its number of classes, is this one, whatever its steps."""
        if self.config.data.num_classes is None:
            config = replace(config, data=replace(config.data, num_classes=None))
        config = replace(config, training=replace(config.training, steps=self.steps))
        return essentials(config) == essentials(self.config)


def essentials(config: Config) -> list[tuple[str, Any]]:
    """Return the options of a run on which its scores depend."""
    known = [(key, value) for key, value in flatten(config) if not key.startswith(INCIDENTAL)]
    return [(key, value) for key, value in known if key not in NEWER or value != NEWER[key]]


def plan_jobs(plan: Plan, overrides: list[Setting]) -> list[Job]:
    """Return every run of a plan in execution order: all variants of the first seed, then of the second, and so on.

    So the results can be compared at any time. `overrides` come from the command line.

    Raise ConfigError, naming plan and variant, if the configuration of a variant is wrong.
    """
    where = f"{plan.file}: "
    shared = [Setting(key, value, where) for key, value in plan.settings.items()]
    shared += [Setting(f"evaluation.{key}", value, where) for key, value in plan.evaluation.items()]
    made = {v: variant_config(plan, v, [*shared, *overrides]) for v in plan.variants}
    jobs = []
    for seed in plan.seeds:
        for variant, (config, arguments) in made.items():
            if seed not in plan.seeds_of(variant):
                continue
            run_dir = "/".join(["runs", plan.name, *([plan.size] if plan.size else []), variant, f"seed-{seed}"])
            config = replace(config, run_dir=run_dir, training=replace(config.training, seed=seed))
            own = ("--training.seed", str(seed), "--run_dir", run_dir)
            command = ("train", plan.preset, *arguments, *own)
            jobs.append(Job(variant, seed, config, command, plan.processes, plan.noise_draws))
    return jobs


def variant_config(plan: Plan, variant: str, shared: list[Setting]) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration of a variant, and the options of `sagan train` that produce it.

    Raise ConfigError as `plan_jobs` does.
    """
    where = f"{plan.file}: variants.{variant}"
    changes = require_mapping(or_empty(plan.variants[variant]), where, "a mapping")
    settings = [*shared, *(Setting(key, value, f"{where}: ") for key, value in changes.items())]
    settings = [s for setting in settings for s in both_networks(setting)]
    for s in settings:
        if s.key in SET_BY_PLAN:
            raise ConfigError(f"{s.where}{s.key} {shown(s.value)}: {SET_BY_PLAN[s.key]}")
    try:
        config = load_settings(plan.preset, settings)
        require_metric(config, plan)
    except ConfigError as error:  # an error about a contradiction names options, not where they were set
        text = str(error)
        raise ConfigError(text if text.startswith((str(plan.file), "--")) else f"{where}: {text}") from None
    return config, tuple(word for key, value in last_values(settings).items() for word in (f"--{key}", word_of(value)))


def last_values(settings: list[Setting]) -> dict[str, Any]:
    """Return each option once, with the value that counts: a mapping overrides its entries, and a later entry its own.

    A command line takes a mapping or its entries, not both.
    """
    last: dict[str, Any] = {}
    for s in settings:
        mapping, _, entry = s.key.rpartition(".")
        if isinstance(last.get(mapping), dict):
            last[mapping] = {**last[mapping], entry: s.value}
            continue
        last = {key: value for key, value in last.items() if not key.startswith(f"{s.key}.")}
        last[s.key] = s.value
    return last


def both_networks(setting: Setting) -> list[Setting]:
    """Return a setting of `model.*.x` as one for each network, and any other unchanged."""
    if not setting.key.startswith("model.*."):
        return [setting]
    return [setting._replace(key=setting.key.replace("*", network, 1)) for network in NETWORKS]


def require_metric(config: Config, plan: Plan) -> None:
    """Raise ConfigError if a run would not record the plan's metric."""
    from sagan.data.pairs import PAIRS  # slow: torch
    from sagan.evaluation.directions import UNDIRECTED
    from sagan.evaluation.extractors import WITH_LOGITS
    from sagan.evaluation.scores import FEWEST, MEASURES, RULE_MEASURES, suffix

    if config.evaluation.every == 0:
        raise ConfigError(
            f"{plan.file}: evaluation.every 0: expected a number of steps; the last step is always scored"
        )
    evaluation, of_pairs = config.evaluation, config.data.source in PAIRS
    known = {f"{name}{suffix(evaluation.extractor.name)}": name for name in MEASURES}
    known |= {name: name for name in RULE_MEASURES if of_pairs and name not in UNDIRECTED}
    if plan.metric not in known:
        raise ConfigError(f"{plan.file}: metric {plan.metric}: expected one of {', '.join(known)}")
    measure = known[plan.metric]
    if measure == "is_mean" and evaluation.extractor.name not in WITH_LOGITS:
        raise ConfigError(f"{plan.file}: metric {plan.metric}: only {' and '.join(WITH_LOGITS)} have class logits")
    if measure == "intra_fid" and (of_pairs or config.data.num_classes == 0):
        raise ConfigError(f"{plan.file}: metric {plan.metric}: the images have no classes")
    per_class = measure == "intra_fid"
    fewest = FEWEST.get(measure, 0) * (config.data.num_classes or 1 if per_class else 1)
    for option, number in (("num_samples", evaluation.num_samples), ("num_real", evaluation.num_real or fewest)):
        if number < fewest:
            each = f", {FEWEST[measure]} of each class" if per_class else ""
            raise ConfigError(
                f"{plan.file}: metric {plan.metric}: needs at least {fewest} images{each}, but evaluation.{option} is "
                f"{number}"
            )


def word_of(value: Any) -> str:
    """Return a value as written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)
