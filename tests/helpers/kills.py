"""Runs that are killed where they write, or find the disk full: `python -m tests.helpers.kills FOLDER IMAGES few|all`.

A program of its own, for pytest's process may have trained already, and a process whose autograd has run must not fork.
It records what an undisturbed run writes, kills a copy of the run before, inside and after each write, resumes the copy
and compares it with the undisturbed run, bit for bit. Checkpoints are written in a thread: the kills there are repeated
with the thread held back, so that training is as far ahead as it can be. Kills at random times follow, as many as the
next argument says, and disks of different sizes that are full under way, as many as the one after it. It prints a JSON
object for each.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch_fidelity  # noqa: F401  # slow, and otherwise imported anew by each process that is forked
from torch.utils.tensorboard import summary  # noqa: F401  # the same

from sagan.api import train
from sagan.config import Config, UserError
from sagan.presets import load_config
from sagan.runs import writer
from sagan.training import evaluator
from sagan.training.messages import Progress
from tests.helpers.compare_runs import differences
from tests.helpers.operations import Kill, Operation, Operations, places
from tests.helpers.tiny_runs import cheap_extractor

OPTIONS = (
    "device=cpu",
    "data.source=folder",
    "model.generator.channels=4",
    "model.generator.z_dim=8",
    "model.discriminator.channels=4",
    "training.precision=float32",
    "training.batch_size=4",
    "training.steps=5",
    "logging.every=1",
    "logging.images_every=2",
    "logging.attention_every=2",
    "checkpoint.every=2",
    "checkpoint.keep=1",
    "evaluation.every=3",  # the other checkpoints are written while training continues
    "evaluation.num_samples=8",
    "evaluation.num_real=8",
)


FEW = ("logging.images_every=4", "logging.attention_every=4")  # pictures take most of the time


AHEAD = "checkpoint checkpoints/step-00000004.pt"  # with the thread held back, written after the record of step 5


def start(
    config: Config, kill: Kill | None = None, record: Path | None = None, largest: int = -1, late: bool = False
) -> int:
    """Fork a process that trains, and return its id. It writes its operations to the file `record`.

    It cannot write files beyond `largest` bytes. If `late`, it writes a checkpoint only when it has to wait for it. Its
    exit code is 1 for an error in one line.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 9
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, -1))
        output = os.open(f"{config.run_dir}.output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        Progress.SECONDS = 1e9  # its lines depend on the time
        evaluator.build_extractor = cheap_extractor
        operations = Operations(Path(str(config.run_dir)), kill)
        operations.install()
        if late:
            hold_back()
        train(config)
        if record:
            record.write_text(json.dumps({t: [[o.verb, o.path] for o in seen] for t, seen in operations.seen.items()}))
        code = 0
    except UserError as error:
        print("error:", error)
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def hold_back() -> None:
    """Make the thread that writes a checkpoint begin only when the run waits for it."""
    awaited, wait, save = threading.Event(), writer.CheckpointWriter.wait, writer.save_checkpoint

    def late_wait(self):
        awaited.set()
        wait(self)
        awaited.clear()

    def late_save(*given):
        awaited.wait()
        return save(*given)

    writer.CheckpointWriter.wait, writer.save_checkpoint = late_wait, late_save


def finish(pid: int) -> int:
    """Wait for a process, and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Harness:
    """Kills of copies of one run, compared with the undisturbed one in FOLDER/whole."""

    def __init__(self, folder: Path, images: str, options: Sequence[str] = ()):
        self.folder = folder
        self.whole = folder / "whole"
        self.config = load_config(None, [*OPTIONS, *options, f"data.path={images}", f"run_dir={self.whole}"])
        began = time.monotonic()
        self.writes = self.record(self.config)
        self.seconds = time.monotonic() - began

    def record(self, config: Config) -> dict[str, list[Kill]]:
        """Finish a run and return its writes with the places to kill it."""
        record = self.folder / "operations.json"
        if code := finish(start(config, record=record)):
            sys.exit(f"{config.run_dir} ended with {code}: {Path(f'{config.run_dir}.output').read_text()}")
        seen = json.loads(record.read_text())
        return places({thread: [Operation(*each) for each in operations] for thread, operations in seen.items()})

    def config_of(self, name: str) -> Config:
        """Return the configuration of a copy."""
        return replace(self.config, run_dir=str(self.folder / name))

    def kill(self, name: str, kill: Kill, before: Path | None = None, late: bool = False) -> None:
        """Kill a run, or one that resumes from a copy of `before`, at a place; resume it, compare it, and print.

        If `late`, it writes a checkpoint only when it has to wait for it.
        """
        config = self.config_of("copy")
        if before:
            shutil.copytree(before, str(config.run_dir))
        code = finish(start(config, kill, late=late))
        wrong = [] if code == -signal.SIGKILL else [f"ended with {code}, was to be killed"]
        self.conclude(f"{name}{', late' * late}, {kill.moment} operation {kill.number}", config, 1, wrong)

    def kill_at_random(self, draws: random.Random, kills: int) -> int:
        """Kill a run at random times, `kills` times or until it ends; resume it, compare it, and print.

        Return how often it was killed.
        """
        config, times, wrong = self.config_of("copy"), [], []
        while len(times) < kills:
            pid, seconds = start(config), draws.uniform(0, 0.9 * self.seconds)
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
            if (code := finish(pid)) != -signal.SIGKILL:  # it was faster
                wrong = [f"ended with {code} by itself"] if code else []
                break
            times.append(round(seconds, 3))
        self.conclude(f"random times {times}", config, len(times), wrong)
        return len(times)

    def fill(self, part: float) -> None:
        """Train on a disk that holds a part of the run, or with a limit on files if this user cannot make one.

        Then give the run the room that it needs, resume it, compare it, and print.
        """
        config, sizes = self.config_of("copy"), [p.stat().st_size for p in self.whole.rglob("*") if p.is_file()]
        run_dir, output = Path(str(config.run_dir)), Path(f"{config.run_dir}.output")
        run_dir.mkdir()
        size, largest = int(part * sum(sizes)), int(part * max(sizes))
        mounted = mount(run_dir, f"size={size}")
        code = finish(start(config, largest=-1 if mounted else largest))
        said = output.read_text()
        found = [f"ended with {code}"] * (code != 1) + ["a traceback"] * ("Traceback" in said)
        found += ["more or less than one error"] * (said.count("error:") != 1)
        if mounted:
            mount(run_dir, "remount,size=100%")
        self.conclude(f"disk of {size} bytes" if mounted else f"files of {largest} bytes", config, 0, found)

    def conclude(self, name: str, config: Config, kills: int, found: list[str]) -> None:
        """Resume a killed run, compare it, print what was found, and remove it."""
        if code := finish(start(config)):
            output = Path(f"{config.run_dir}.output").read_text().strip().splitlines()
            found.append(f"the resumed run ended with {code}: {output[-1] if output else ''}")
        else:
            found += differences(Path(str(config.run_dir)), self.whole)
        print(json.dumps({"where": name, "kills": kills, "differences": found[:5]}), flush=True)
        if os.path.ismount(str(config.run_dir)):
            subprocess.run(["umount", str(config.run_dir)], check=True)
        shutil.rmtree(str(config.run_dir), ignore_errors=True)
        Path(f"{config.run_dir}.output").unlink()

    def interrupted(self) -> Path:
        """Return a run that was killed before it named its last checkpoint: it has records to drop, and a leftover."""
        name = next(name for name in self.writes if name.startswith("checkpoint checkpoints/step-00000005.pt"))
        config = self.config_of("interrupted")
        assert finish(start(config, self.writes[name][-2])) == -signal.SIGKILL
        return Path(str(config.run_dir))


def mount(folder: Path, options: str) -> bool:
    """Mount a small file system in memory. Return whether this user may."""
    return not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode


def few(writes: dict[str, list[Kill]]) -> dict[str, list[Kill]]:
    """Return one place for each kind of file, inside the last write of it, and those around a checkpoint's renaming."""
    last = {}
    for name, kills in writes.items():
        if inside := [kill for kill in kills if kill.moment == "inside"]:
            last[name.split(" ")[0]] = (name, kills, inside)
    name, kills, _ = last["checkpoint"]
    return {**{name: inside[-1:] for name, _, inside in last.values()}, name: kills[-3:]}


def late(writes: dict[str, list[Kill]], extent: str) -> dict[str, list[Kill]]:
    """Return the places in the thread that writes checkpoints; of few, those around one renaming."""
    its = {name: kills for name, kills in writes.items() if kills[0].thread == "writer"}
    return its if extent == "all" else {name: kills[-3:] for name, kills in its.items() if name.startswith(AHEAD)}


def main(folder: str, images: str, extent: str, kills: str = "0", disks: str = "0") -> None:
    """Kill at few or all places and so many times at random, and fill so many disks."""
    os.environ["SAGAN_CACHE"] = str(Path(folder) / "cache")
    harness = Harness(Path(folder), images, FEW if extent == "few" else ())
    chosen = few(harness.writes) if extent == "few" else harness.writes
    for name, places_of in chosen.items():
        for kill in places_of:
            harness.kill(name, kill)
    for name, places_of in late(harness.writes, extent).items():
        for kill in places_of:
            harness.kill(name, kill, late=True)
    if extent == "all":
        before = harness.interrupted()
        copy = replace(harness.config, run_dir=str(shutil.copytree(before, harness.folder / "again")))
        resumed = harness.record(copy)
        for name, places_of in resumed.items():
            for kill in places_of:
                harness.kill(f"resumed: {name}", kill, before)
    draws, left = random.Random(0), int(kills)
    while left > 0:
        left -= harness.kill_at_random(draws, min(3, left))
    for i in range(int(disks)):
        harness.fill((i + 0.5) / int(disks))


if __name__ == "__main__":
    main(*sys.argv[1:])
