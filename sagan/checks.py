"""What types cannot tell about options: ranges, sizes that exist, contradictions. Each error names option and value."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from sagan.config import DRAWN, Config, ConfigError, DataConfig, EvaluationConfig, UserError
from sagan.models.sizes import split_size
from sagan.option_parser import option_types
from sagan.options import AttentionBenchOptions, AttentionOptions, SampleOptions
from sagan.runtime.files import check_writable

Rule = tuple[str, Callable[[Any], bool]]  # in words, and in code
ABOVE_0: Rule = "a number above 0", lambda v: v > 0
FROM_0: Rule = "0 or more", lambda v: v >= 0
DECAY: Rule = "0 <= value < 1", lambda v: 0 <= v < 1
FRACTION: Rule = "0 < value <= 1", lambda v: 0 < v <= 1
# A narrower cut would redraw nearly every entry, thousands of times.
TRUNCATION: Rule = "0 (never), or at least 0.01", lambda v: v == 0 or v >= 0.01

RULES: dict[str, Rule] = {
    "data.num_classes": FROM_0,
    "data.memory_gb": FROM_0,
    "data.workers": FROM_0,
    "model.generator.channels": ABOVE_0,
    "model.generator.z_dim": ABOVE_0,
    "model.generator.norm_momentum": FRACTION,
    "model.generator.norm_eps": ABOVE_0,
    "model.discriminator.channels": ABOVE_0,
    "optimizer.generator_lr": ABOVE_0,
    "optimizer.discriminator_lr": ABOVE_0,
    "optimizer.beta1": DECAY,
    "optimizer.beta2": DECAY,
    "optimizer.eps": ABOVE_0,
    "training.steps": ABOVE_0,
    "training.batch_size": ABOVE_0,
    "training.seed": FROM_0,
    "training.d_steps": ABOVE_0,
    "training.micro_batches": ABOVE_0,
    "training.ema_decay": DECAY,
    "training.ema_start": FROM_0,
    "evaluation.every": FROM_0,
    "evaluation.num_samples": ABOVE_0,
    "evaluation.num_real": FROM_0,
    "evaluation.batch_size": ABOVE_0,
    "evaluation.seed": FROM_0,
    "evaluation.standing_statistics": FROM_0,
    "evaluation.truncation": TRUNCATION,
    "logging.every": ABOVE_0,
    "logging.images_every": FROM_0,
    "logging.attention_every": FROM_0,
    "checkpoint.every": FROM_0,
    "checkpoint.keep": ABOVE_0,
}
SAMPLE_RULES: dict[str, Rule] = {
    "num": ABOVE_0,
    "seed": FROM_0,
    "truncation": TRUNCATION,
    "standing_statistics": FROM_0,
    "batch_size": ABOVE_0,
}
ATTENTION_BENCH_RULES: dict[str, Rule] = {
    "batch": ("2 or more, for batch norm", lambda v: v >= 2),
    "channels": ABOVE_0,
    "threads": ABOVE_0,
    "repeats": ABOVE_0,
}
ATTENTION_RULES: dict[str, Rule] = {"num": ABOVE_0, "seed": FROM_0}


def check(config: Config) -> Config:
    """`config` itself, if nothing in it contradicts anything else in it. Raises ConfigError."""
    data, training = config.data, config.training
    check_ranges(config, RULES)
    if not isinstance(data.resolution, int) and len(data.resolution) != 2:
        raise ConfigError(f"data.resolution {data.resolution}: expected N or [H, W]")
    if training.batch_size % training.micro_batches:
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be split into training.micro_batches "
            f"{training.micro_batches} equal parts"
        )
    if data.source in ("folder", "packed") and not data.path:
        raise ConfigError(f"data.path {data.path or 'null'}: data.source {data.source} needs a folder")
    if data.source in DRAWN and data.path:
        raise ConfigError(f"data.path {data.path}: data.source {data.source} draws its images, so expected null")
    split_size(data.size)
    from sagan.models.places import check_attention as check_places  # last of all: torch is slow to import

    check_places(config)
    return config


def check_sampling(options: SampleOptions) -> None:
    """Refuses options of `sagan sample` that no generator can follow. Raises ConfigError, UserError."""
    check_ranges(options, SAMPLE_RULES, "--")
    one_picture = "--interpolate" if options.interpolate else "--nearest" if options.nearest else None
    if options.interpolate and options.nearest:
        raise ConfigError(f"--interpolate {options.interpolate} and --nearest {options.nearest}: only one at a time")
    if one_picture and options.out and not options.out.endswith(".png"):
        raise ConfigError(f"--out {options.out}: {one_picture} makes one picture, so expected a name that ends in .png")
    _check_classes(options.classes)
    if options.interpolate == "classes" and options.classes and len(options.classes) < 2:
        raise ConfigError(f"--classes {options.classes}: --interpolate classes goes between two classes or more")
    if options.out:
        check_writable(Path(options.out), "--out", folder=not options.out.endswith((".png", ".npz")))
    if options.nearest:
        nearest_source(options.nearest)


def check_attention(options: AttentionOptions, data_keys: list[str]) -> None:
    """Refuses options of `sagan attention` that no network can follow; `data_keys` are the data options that somebody
    gave. Raises ConfigError, UserError."""
    check_ranges(options, ATTENTION_RULES, "--")
    _check_classes(options.classes)
    query_points(options.queries)
    if options.network == "generator" and data_keys:
        raise ConfigError(f"--{data_keys[0]}: --network generator shows generated images only, and no data")
    if options.animate and options.checkpoint:
        raise ConfigError(f"--checkpoint {options.checkpoint}: --animate {options.animate} shows all of a run")
    if options.out:
        check_writable(Path(options.out), "--out", folder=True)


def query_points(text: str) -> list[tuple[int, int]] | None:
    """The points (y, x) of `--queries`, such as "8,8 20,14"; None for "auto". Raises ConfigError."""
    if text == "auto":
        return None
    points = [re.fullmatch(r"(\d+),(\d+)", point) for point in text.split()]
    if not points or None in points:
        raise ConfigError(f"--queries {text}: expected auto, or points y,x in pixels of the image, such as 8,8 20,14")
    return [(int(point[1]), int(point[2])) for point in points]


def check_evaluation(config: EvaluationConfig) -> None:
    """Refuses options of `sagan evaluate` that are out of range. Raises ConfigError."""
    prefix = "evaluation."
    check_ranges(config, {k.removeprefix(prefix): r for k, r in RULES.items() if k.startswith(prefix)}, "--")


def check_attention_bench(options: AttentionBenchOptions) -> None:
    """Refuses options of `sagan bench --attention` that nothing can be measured with. Raises ConfigError."""
    check_ranges(options, ATTENTION_BENCH_RULES, "--")
    if not options.sizes or min(options.sizes) < 1:
        raise ConfigError(f"--sizes {options.sizes}: expected one number above 0 or more")
    if options.kinds is not None and (not options.kinds or "none" in options.kinds):
        raise ConfigError(f"--kinds {options.kinds}: expected null or kinds that do something")


def _check_classes(classes: list[int] | None) -> None:
    if classes == []:
        raise ConfigError("--classes []: expected at least one class")


def check_ranges(options: Any, rules: dict[str, Rule], where: str = "") -> None:
    """Holds every option that has a rule against it; null is for the type to refuse. Raises ConfigError."""
    for key, (expected, holds) in rules.items():
        value = options
        for name in key.split("."):
            value = getattr(value, name)
        if value is not None and not holds(value):
            raise ConfigError(f"{where}{key} {value}: expected {expected}")


def nearest_source(name: str) -> str:
    """The `data.source` that `--nearest` means: folder or packed for a folder, or a name such as cifar10.

    Raises UserError where there is neither.
    """
    path = Path(name).expanduser()
    named = [s for s in get_args(option_types(DataConfig)["source"]) if s not in ("folder", "packed")]
    if path.is_dir():
        return "packed" if (path / "meta.json").is_file() else "folder"
    if name in named:
        return name
    raise UserError(f"--nearest {name}: no such folder; expected one with images, or one of {', '.join(named)}")
