"""A part of a run, and what its processes saw together: `torchrun rank_stages.py RUN.yaml STEPS PROBED SEEN.pt`."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist

from sagan.config import Config
from sagan.data import TrainingBatches, open_data
from sagan.presets import load_config
from sagan.runs import evaluation
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path
from sagan.runtime.distributed import average, is_main, process_group, rank, world_size
from sagan.training import performance, steps
from sagan.training.inputs import Inputs, step_inputs
from sagan.training.loop import train
from sagan.training.state import build_state
from tests.helpers.tiny_runs import cheap_extractor


def stage(config: Config, last: int, probed: int) -> dict:
    """Train until step `last`; return the inputs of all updates, and `probe` of the checkpoint of step `probed`."""
    inputs: list[dict] = []

    def noted(step):
        return lambda state, given: inputs.append(joined(given)) or step(state, given)

    with patch.object(
        performance,
        "EAGER",
        steps.EAGER._replace(discriminator=noted(steps.discriminator_step), generator=noted(steps.generator_step)),
    ):
        train(replace(config, training=replace(config.training, steps=last)))
    return {"inputs": inputs, **(probe(config, probed) if probed else {})}


def joined(inputs: Inputs) -> dict[str, torch.Tensor]:
    """Return the inputs of all processes as one process would have them."""
    parts = [inputs.tensors()]
    if world_size() > 1:
        parts = [{} for _ in range(world_size())]
        dist.all_gather_object(parts, inputs.tensors())
    whole = {}
    for name, value in parts[0].items():
        if value.ndim == 0:
            whole[name] = value
            continue
        groups = 2 if name == "uniform" and inputs.real is not None else 1  # of real images, then of generated ones
        chunks = [part[name].chunk(groups) for part in parts]
        whole[name] = torch.cat([of_rank[group] for group in range(groups) for of_rank in chunks])
    return whole


def probe(config: Config, step: int) -> dict:
    """Return losses and gradients of an update of each network from a checkpoint, and the scores of its weights."""
    path = checkpoint_path(Path(config.run_dir), step)
    found: dict = {}
    for update, number in ((steps.discriminator_gradients, 0), (steps.generator_gradients, config.training.d_steps)):
        state = build_state(config, torch.device("cpu"), torch.float32)
        state.restore(load_checkpoint(path))
        gradients, metrics = update(state, next(islice(inputs_after(config, step), number, None)))
        average(gradients)
        average(list(metrics.values()))
        found |= {update.__name__: torch.cat([g.flatten() for g in gradients]), **metrics}
    with patch.object(evaluation, "build_extractor", cheap_extractor):
        scores = evaluation.evaluate_run(config.run_dir, checkpoint=path.name)
    return {**found, "scores": None if scores is None else scores.values}


def inputs_after(config: Config, step: int) -> Iterator[Inputs]:
    """Yield this process's inputs of the updates after a step."""
    training, model = config.training, config.model.generator
    batches = TrainingBatches(
        open_data(config.data),
        seed=training.seed,
        batch_size=training.batch_size,
        flip=config.data.flip,
        rank=rank(),
        world_size=world_size(),
        start=step * training.d_steps,
    )
    return step_inputs(training, model.z_dim, config.data.num_classes or 0, batches, step)


def main(file: str, last: str, probed: str, seen: str) -> None:
    """Save what the processes saw."""
    with process_group(torch.device("cpu")):
        found = stage(load_config(file), int(last), int(probed))
        if is_main():
            torch.save(found, seen)


if __name__ == "__main__":
    main(*sys.argv[1:])
