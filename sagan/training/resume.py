"""Whether a run may go on from its newest checkpoint with the configuration, the data and the machine of now."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch

from sagan.config import Config, ConfigError, UserError, refuse_changes
from sagan.data import Dataset
from sagan.runs.checkpoints import checkpoint_config, load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import evaluated
from sagan.training.state import TrainState

SHOWN = 5  # classes that differ


def newest_checkpoint(run_dir: Path) -> dict | None:
    """The content of the newest checkpoint of a run, None where it has none. Raises UserError where it is damaged."""
    found = checkpoints(run_dir)
    return load_checkpoint(found[-1]) if found else None


def resumed_config(config: Config, saved: dict | None, run_dir: Path) -> Config:
    """`config` as the run that left `saved` may go on with. Raises ConfigError, with both values, where it may not."""
    if saved is None:
        return config
    old = checkpoint_config(saved, run_dir)
    if config.data.num_classes is None:  # the run has found it out
        config = replace(config, data=replace(config.data, num_classes=old.data.num_classes))
    if "dtype" in saved:  # what precision came to is compared instead, by `require_same_dtype`
        old = replace(old, training=replace(old.training, precision=config.training.precision))
    refuse_changes(old, config, run_dir)
    return config


def finished(config: Config, saved: dict | None) -> bool:
    """Whether all steps are taken, and the last one is evaluated where it is to be: a run may die before that."""
    step, last = saved["step"] if saved else 0, config.training.steps
    if step != last or config.evaluation.every == 0:
        return step >= last
    return evaluated(Path(config.run_dir), step)


def require_same_dtype(saved: dict, config: Config, dtype: torch.dtype) -> None:
    """Raises ConfigError where activations had another dtype: `auto` depends on the machine. Checkpoints of older
    versions do not tell."""
    now, before = str(dtype).removeprefix("torch."), saved.get("dtype")
    if before not in (None, now):
        precision = {"bfloat16": "bf16"}.get(before, before)
        raise ConfigError(
            f"training.precision {config.training.precision} comes to {now} on this machine, and {config.run_dir} was "
            f"trained in {before}; --training.precision {precision} goes on with it"
        )


def data_facts(data: Dataset) -> dict:
    """What a checkpoint keeps of the data: the classes that labels stand for, and the length of an epoch."""
    facts = {"class_names": data.class_names, "images": len(data)}
    return facts if data.identity is None else {**facts, "identity": data.identity}


def require_same_data(saved: dict, data: Dataset, run_dir: Path) -> None:
    """Raises ConfigError, with both values, where labels would come to mean other classes, or an epoch would come to
    have another order. Checkpoints of older versions do not tell."""
    before, now = saved.get("data"), data_facts(data)
    if before in (None, now):
        return
    pairs = enumerate(zip_longest(before["class_names"], now["class_names"], fillvalue="none"))
    changed = [f"  class {i}: {old} in the run, {new} now" for i, (old, new) in pairs if old != new]
    changed[SHOWN:] = [f"  and {len(changed) - SHOWN} more classes"] if len(changed) > SHOWN else []
    if before["images"] != now["images"]:
        changed.append(f"  images: {before['images']} in the run, {now['images']} now")
    if not changed:
        changed.append("  other images or labels, of the same number and classes")
    lines = "\n".join(changed)
    raise ConfigError(
        f"{run_dir} cannot be resumed with other data:\n{lines}\nGive the old data, or another --run_dir for a new run."
    )


def restore(state: TrainState, saved: dict, run_dir: Path) -> None:
    """Gives a state what its checkpoint holds. Raises UserError, naming the file, where that does not fit."""
    try:
        state.restore(saved)
    except (KeyError, ValueError, RuntimeError) as error:
        path = checkpoint_path(run_dir, saved["step"])
        raise UserError(f"{path}: does not fit its configuration: {' '.join(str(error).split())}") from error
