"""Checks that a run can start, or resume from its newest checkpoint, with the current configuration and data."""

import os
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from sagan.config import FROM_PYTHON, Config, ConfigError, DataConfig, UserError, flatten, refuse_changes
from sagan.config.writing import MACHINE_OPTIONS, is_written
from sagan.data import Dataset
from sagan.data.dataset import distinct
from sagan.data.given import GIVE_AGAIN
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.runs.checkpoints import checkpoint_config, checkpoints_to_remove, set_aside
from sagan.runs.contents import check_adam, check_weights
from sagan.runs.directory import checkpoint_path, configured_run_dir
from sagan.runs.hub_download import is_address
from sagan.runs.log import RunLog
from sagan.runs.records import evaluated, read_records
from sagan.runs.saved_networks import load_weights
from sagan.runtime.device import choose_device
from sagan.runtime.distributed import any_process, run_on_main, world_size
from sagan.runtime.files import check_writable
from sagan.runtime.wording import counted, printable
from sagan.training.health import NonFiniteError
from sagan.training.performance import require_mode

MAY_DIFFER = (*MACHINE_OPTIONS, "evaluation.extractor.weights")  # between the processes of a run
SHOWN = 5  # differing classes in a message, at most


def check_start(config: Config, saved: dict | None, data_given: bool, *, download: bool = True) -> Config:
    """Return the configuration to start or resume with. Raise ConfigError or UserError before anything slow begins.

    Weights of `training.init_from` on the Hub are not checked unless they may be downloaded.
    """
    training, directory = config.training, configured_run_dir(config)
    require_mode(training.performance, choose_device(config.device))
    if training.batch_size % (world_size() * training.micro_batches):
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be split over "
            f"{counted(world_size(), 'process', 'processes')} and training.micro_batches {training.micro_batches}"
        )
    run_on_main(lambda: check_writable(directory, "run_dir", folder=True))
    trained_on = checkpoint_config(saved, directory).data.source if saved else None
    if not data_given and FROM_PYTHON in (config.data.source, trained_on):
        raise ConfigError(
            f"data.source {FROM_PYTHON}: {directory} is trained on a data set from Python; "
            + GIVE_AGAIN.format("train(config")
        )
    config = resumed_config(config, saved, directory)
    require_outside(directory, config.data)
    if saved:
        require_fit(saved, config, directory)
        run_on_main(lambda: require_kept(saved, config, directory))
    else:
        run_on_main(lambda: refuse_foreign(config, directory))
        if (init_from := training.init_from) and (download or not is_address(init_from)):
            run_on_main(lambda: load_weights(init_from)[0])  # only to check that they can be read
    return config


def resumed_config(config: Config, saved: dict | None, run_dir: Path) -> Config:
    """Return `config`, ready to resume the run of `saved`. Raise ConfigError, with both values, if they conflict."""
    if saved is None:
        return config
    old = checkpoint_config(saved, run_dir)
    if config.data.num_classes is None:  # the run has counted them
        config = replace(config, data=replace(config.data, num_classes=old.data.num_classes))
    if "dtype" in saved:  # `require_same_dtype` compares the resulting dtypes instead
        old = replace(old, training=replace(old.training, precision=config.training.precision))
    refuse_changes(old, config, run_dir)
    return config


def finished(config: Config, saved: dict) -> bool:
    """Return whether all steps have been taken and, if evaluation is on, the last one has been evaluated.

    A run may be killed between its last checkpoint and its last evaluation.
    """
    step, last = saved["step"], config.training.steps
    if step != last or config.evaluation.every == 0:
        return step >= last
    return evaluated(configured_run_dir(config), step)


def require_kept(saved: dict, config: Config, run_dir: Path) -> None:
    """Raise ConfigError if fewer checkpoints are to be kept than the run has kept so far."""
    before, now = checkpoint_config(saved, run_dir).checkpoint.keep, config.checkpoint.keep
    removed = checkpoints_to_remove(run_dir, now)
    if now < before and removed:
        raise ConfigError(
            f"checkpoint.keep {now}: {run_dir} keeps {before}, and {counted(len(removed), 'checkpoint')} would be "
            f"removed, the first {removed[0].name}; give --checkpoint.keep {before}, or remove them yourself"
        )


def refuse_foreign(config: Config, run_dir: Path) -> None:
    """Raise ConfigError if a new run would replace files that are not its own.

    A run killed before its first checkpoint may begin again: its records end before its second checkpoint was due.
    """
    file = run_dir / "config.yaml"
    if file.is_file() and not is_written(file.read_text(errors="replace")):
        raise ConfigError(f"run_dir {run_dir}: no run has written the {file.name} there; choose another run_dir")
    last = max((record["step"] for record in read_records(run_dir / "metrics.jsonl")), default=0)
    if last > 2 * (config.checkpoint.every or config.training.steps):  # 0: only the last step has a checkpoint
        raise ConfigError(
            f"run_dir {run_dir}: has records up to step {last} but no checkpoint, and a new run would replace them; "
            "choose another run_dir, or move metrics.jsonl away"
        )


def require_outside(run_dir: Path, data: DataConfig) -> None:
    """Raise ConfigError if the run's own pictures would be among its training images."""
    folder = Path(data.path or "").expanduser().resolve()
    local = data.source == "folder" or (data.source == "huggingface" and folder.is_dir())
    if local and data.path and run_dir.resolve().is_relative_to(folder):
        raise ConfigError(
            f"run_dir {run_dir}: is inside data.path {data.path}, so its pictures would become training images; "
            "choose a run_dir elsewhere"
        )


def set_damaged_aside(damaged: dict[Path, str], step: int, log: RunLog) -> None:
    """Rename the damaged checkpoints (path -> reason), all newer than that of `step`, and log a warning for each."""
    if not log.active:
        return
    for path, reason in damaged.items():
        log.say(
            f"warning: {reason}; renamed to {set_aside(path).name}. "
            f"The run continues from step {step}, and its records after that step are dropped"
        )


def shared_facts(config: Config, saved: dict | None) -> dict[str, Any]:
    """Return the options and the step on which the processes of a run must agree. Paths may differ between machines."""
    step = saved["step"] if saved else 0
    return {"step": step} | {key: value for key, value in flatten(config) if key not in MAY_DIFFER}


def refuse_to_diverge_again(run_dir: Path, saved: dict | None) -> None:
    """Raise NonFiniteError if torchrun restarts a run that has diverged after its newest checkpoint.

    The same steps would diverge again. A command that a person runs again is not refused.
    """

    # On a machine that joins late, the count of restarts begins at 0.
    if not any_process(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0):
        return

    def last_divergence() -> str | None:
        records = read_records(run_dir / "metrics.jsonl")
        step = saved["step"] if saved else 0
        return next((str(r["diverged"]) for r in reversed(records) if "diverged" in r and r["step"] > step), None)

    if text := run_on_main(last_divergence):
        raise NonFiniteError(f"{text} An earlier attempt recorded this, and another one would end the same way.")


def require_same_dtype(saved: dict, config: Config, dtype: torch.dtype) -> None:
    """Raise ConfigError if the run had activations of another dtype, because `auto` depends on the machine.

    Checkpoints of older versions do not record the dtype.
    """
    now, before = str(dtype).removeprefix("torch."), saved.get("dtype")
    if before not in (None, now):
        precision = {"bfloat16": "bf16"}.get(before, before)
        raise ConfigError(
            f"training.precision {config.training.precision} means {now} on this machine, but {config.run_dir} was "
            f"trained in {before}; to resume it, use --training.precision {precision}"
        )


def data_facts(data: Dataset) -> dict:
    """Return what a checkpoint records about the data: the names of the classes, and the length of an epoch.

    For a data set from Python, also the digest of its images.
    """
    facts = {"class_names": data.class_names, "images": len(data)}
    return facts if data.identity is None else {**facts, "identity": data.identity}


def require_same_data(saved: dict, data: Dataset, run_dir: Path) -> None:
    """Raise ConfigError, with both values, if the meaning of labels or the length of an epoch would change.

    Checkpoints of older versions do not record the data.
    """
    before, now = saved.get("data"), data_facts(data)
    if before is None:
        return
    before = {**before, "class_names": distinct(before["class_names"])}  # older versions kept repeated names
    if before == now:
        return
    pairs = enumerate(zip_longest(before["class_names"], now["class_names"], fillvalue="none"))
    changed = [printable(f"  class {i}: {old} in the run, {new} now", keep="") for i, (old, new) in pairs if old != new]
    rest = len(changed) - SHOWN
    changed[SHOWN:] = [f"  and {counted(rest, 'more class', 'more classes')}"] if rest > 0 else []
    if before["images"] != now["images"]:
        changed.append(f"  images: {before['images']} in the run, {now['images']} now")
    if not changed:
        changed.append("  different images or labels, with the same number and classes")
    lines = "\n".join(changed)
    raise ConfigError(
        f"{run_dir} cannot be resumed with other data:\n{lines}\n"
        "Give the original data, or choose another --run_dir for a new run."
    )


def require_fit(saved: dict, config: Config, run_dir: Path) -> None:
    """Raise UserError, naming file and field, unless the states in a checkpoint fit this configuration.

    Networks are built without memory, so this check is quick and can come before data are read.
    """
    builders = {"generator": build_generator, "discriminator": build_discriminator}
    try:
        for name, build in builders.items():
            network = build_skeleton(build, config)
            averaged = [f"{name}_ema"] if name == "generator" and config.training.ema_decay else []
            for key in (name, *averaged, f"{name}_optimizer"):
                if key not in saved:
                    raise ValueError(f"{key!r} is missing")
            for key in (name, *averaged):
                check_weights(saved[key], network, f"{key}.")
            check_adam(saved[f"{name}_optimizer"], network, config.optimizer, f"{name}_optimizer", saved["step"])
    except ValueError as error:
        path = checkpoint_path(run_dir, saved["step"])
        raise UserError(f"{path}: does not fit its configuration: {error}") from error
