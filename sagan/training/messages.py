"""Messages of a run to its user: what it trains, its progress, and what to do next."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from sagan.config import Config
from sagan.data import Dataset, summarize
from sagan.runs.directory import checkpoints
from sagan.runs.log import RunLog
from sagan.runtime.device import started_processes
from sagan.runtime.distributed import is_main, world_size
from sagan.runtime.wording import counted
from sagan.training.state import TrainState


def introduction(config: Config, state: TrainState, data: Dataset) -> list[str]:
    """Return lines about the run, its networks and its data, and warnings about the data."""
    lines, warnings = summarize(data)
    count = {n: sum(p.numel() for p in getattr(state, n).parameters()) for n in ("generator", "discriminator")}
    start = f"resuming from step {state.step}" if state.step else "starting at step 0"
    batch = counted(config.training.batch_size, "image")
    processes = counted(world_size(), "process", "processes")
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if state.device.type == "cpu" else ""
    dtype = str(state.generator.compute_dtype).removeprefix("torch.")
    return [
        f"run {config.run_dir}: {start} of {config.training.steps}, {batch} per step, {processes} on "
        f"{state.device}{threads}, {dtype}",
        f"generator {count['generator']:,} parameters, discriminator {count['discriminator']:,}",
        *lines,
        *(f"warning: {w}" for w in warnings),
    ]


class Progress:
    """A progress bar with step, losses, images per second and time left; a context manager.

    If stderr is not a terminal, the log gets a line every half minute instead. Processes other than the main one show
    nothing.
    """

    SECONDS = 30.0  # between lines, if there is no bar

    def __init__(self, log: RunLog, step: int, config: Config):
        self.log = log
        self.last = config.training.steps
        self.batch_size = config.training.batch_size
        self.bar = tqdm(
            total=self.last,
            initial=step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            disable=None if is_main() else True,
        )
        self.losses = ""
        self.since = (step, time.perf_counter())  # step and time of the last line

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside the block out of the rate and of the time left."""
        start = time.perf_counter()
        yield
        self.since = self.since[0], self.since[1] + time.perf_counter() - start

    def __call__(self, step: int, values: dict[str, float] | None) -> None:
        """Show that a step is finished. `values` is None if its losses are not known yet."""
        if values is not None:
            self.losses = f"D {values['loss/discriminator']:.3f}, G {values['loss/generator']:+.3f}"
        if not self.bar.disable:
            rate = (self.bar.format_dict["rate"] or 0.0) * self.batch_size
            self.bar.set_postfix_str(", ".join(filter(None, [f"{rate:.0f} images/s", self.losses])), refresh=False)
            self.bar.update()
            return
        since, now = self.since, time.perf_counter()
        if now - since[1] >= self.SECONDS:
            rate = (step - since[0]) / (now - since[1])
            left = tqdm.format_interval((self.last - step) / rate)
            parts = (self.losses, f"{rate * self.batch_size:.0f} images/s", f"{left} left")
            self.log.say(f"step {step} of {self.last}: {', '.join(filter(None, parts))}")
            self.since = step, now


def launcher() -> list[str]:
    """Return the command that started this program, without its arguments: sagan, or torchrun for several processes."""
    world, here = started_processes()
    if world == 1:
        return ["sagan"]
    nodes = ["--nnodes", str(world // here)] if here < world else []
    return ["torchrun", *nodes, "--nproc_per_node", str(here), "-m", "sagan"]


def how_to_resume() -> str:
    """Return how to resume this run: the command that started it, or a call if it was started from Python."""
    program, (world, here) = Path(sys.argv[0]), started_processes()
    if "sagan" not in (program.stem, program.parent.name if program.name == "__main__.py" else ""):
        return "To resume, call train again with the same configuration."
    # torchrun does not say how the machines meet.
    where = " on each machine, with its --rdzv options" if here < world else ""
    return f"To resume, run{where}: {shlex.join([*launcher(), *sys.argv[1:]])}"


def farewell(directory: Path, step: int, last: int) -> list[str]:
    """Return lines about the last step, the files, and what to do next."""
    checkpoint = (checkpoints(directory) or ["none"])[-1]
    if step < last:
        return [
            f"stopped after step {step} of {last}; saved {checkpoint}",
            how_to_resume(),
        ]
    grids = sorted((directory / "samples").glob("step-*.png")) or ["none"]
    name = shlex.quote(f"./{directory}" if str(directory).startswith("-") else str(directory))  # not an option
    return [
        f"finished: {counted(step, 'step')} (to continue, raise training.steps)",
        f"  samples      {grids[-1]}",
        f"  checkpoint   {checkpoint}",
        f"  TensorBoard  tensorboard --logdir {name}",
        "next:",
        f"  sagan sample {name} --num 64",
        f"  sagan evaluate {name} --extractor.name efficientnet-lite0 --num_samples 1000",
        f"  sagan export {name}",
    ]
