"""Weights of both networks as safetensors that need no other file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from sagan.config import ConfigError
from sagan.models.build import build_discriminator, build_generator
from sagan.runs.checkpoints import find_checkpoint
from sagan.runs.hub_download import is_address
from sagan.runs.networks import require_fitting
from sagan.runs.saved_networks import Name, saved_in_checkpoint
from sagan.runtime.files import write_atomically


def checkpoint_of(run_or_file: str | Path, checkpoint: str | None = None) -> Path:
    """Return the checkpoint that a RUN argument means, found once: a run in progress may write the next one meanwhile.

    Raise ConfigError for exported weights, and UserError as `find_checkpoint` does.
    """
    if is_address(run_or_file) or Path(run_or_file).suffix == ".safetensors":
        raise ConfigError(f"{run_or_file}: is exported already; expected a run directory or a checkpoint")
    return find_checkpoint(run_or_file, checkpoint)


def export(run_or_file: str | Path, out: Path, checkpoint: str | None = None) -> list[Path]:
    """Write G (its moving average if there is one) and D as generator.safetensors and discriminator.safetensors.

    The files' metadata holds the configuration, the step and the class names. Return the files. Raise UserError as
    `load_generator` does: weights that do not fit are not exported.
    """
    from safetensors.torch import save

    path = checkpoint_of(run_or_file, checkpoint)
    networks = [saved_in_checkpoint(path, name, ema=True) for name in get_args(Name)]
    require_fitting(networks[0], build_generator)
    require_fitting(networks[1], build_discriminator)
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
