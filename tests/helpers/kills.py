"""Runs that are killed where they write: `python -m tests.helpers.kills FOLDER IMAGES few|all [RANDOM]`.

A program of its own, for pytest's process may have trained already, and a process whose autograd has run must not fork.
It records what an undisturbed run writes, kills a copy of the run before, inside and after each write, resumes the copy
and compares it with the undisturbed run, bit for bit. RANDOM kills at any time follow. It prints a JSON object a kill.
"""

import builtins
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sagan.api import train
from sagan.config import Config
from sagan.presets import load_config
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoints
from sagan.runs.records import read_records
from sagan.training import evaluator
from sagan.training.messages import Progress
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
    "evaluation.every=2",
    "evaluation.num_samples=8",
    "evaluation.num_real=8",
)
UNSTEADY = ("time", "speed/images_per_second", "memory/peak_gib")
TEMPORARY = re.compile(r"^\.(.+)\.\d+\.tmp$")
# What a file of a run is, by the end of its path.
KINDS = {
    r"checkpoints/step-\d+\.pt": "checkpoint",
    r"metrics\.jsonl": "records",
    r"best\.json": "best.json",
    r"events\.out\.tfevents.*": "TensorBoard",
    r"config\.yaml": "config",
    r"samples/.*\.png": "samples",
    r"log\.txt": "log",
}


@dataclass(frozen=True)
class Operation:
    """A call that changes a run directory."""

    verb: str
    path: str
    """The file, relative to the run directory: for a temporary file, the one that it becomes."""


@dataclass(frozen=True)
class Kill:
    """A place to die: before, inside or after the operation of this number."""

    number: int
    moment: str


class Operations:
    """The operations of a process in a run directory, in order: recorded, and killed at one of them."""

    def __init__(self, run_dir: Path, kill: Kill | None):
        self.run_dir = run_dir
        self.kill = kill
        self.seen: list[Operation] = []

    def install(self) -> None:
        """Replace the functions by which Python changes files."""
        opened = builtins.open

        def watched_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **rest):
            path = None if isinstance(file, int) else self.within(file)
            if path is None or not set(mode) & set("wax+"):
                return opened(file, mode, buffering, encoding, errors, newline, **rest)
            raw = self.perform("open", path, lambda: Watched(self, path, file, mode.replace("b", "").replace("t", "")))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        builtins.open = io.open = watched_open
        for verb in ("replace", "rename", "unlink", "mkdir"):
            setattr(os, verb, self.watched(verb, getattr(os, verb)))

    def watched(self, verb: str, function):
        """Return a function of `os` that is an operation if its last path is within the run directory."""

        def call(*paths, **options):
            path = self.within(paths[1] if verb in ("replace", "rename") else paths[0])
            if path is None or os.path.lexists(paths[0]) == (verb == "mkdir"):  # it will fail, and change nothing
                return function(*paths, **options)
            return self.perform(verb, path, lambda: function(*paths, **options))

        return call

    def within(self, path) -> str | None:
        """Return a path relative to the run directory, None for one outside. A temporary file has its later name."""
        path = Path(os.fsdecode(path))
        if not path.is_relative_to(self.run_dir):
            return None
        temporary = TEMPORARY.match(path.name)
        return str((path.with_name(temporary[1]) if temporary else path).relative_to(self.run_dir))

    def perform(self, verb: str, path: str, do, half=None):
        """Do something as the next operation, unless the process dies there. `half` does half of it."""
        number = len(self.seen)
        self.seen.append(Operation(verb, path))
        self.die(number, "before")
        if half is not None and self.kill == Kill(number, "inside"):
            half()
        self.die(number, "inside")
        result = do()
        self.die(number, "after")
        return result

    def die(self, number: int, moment: str) -> None:
        """Kill this process if this is the place."""
        if self.kill == Kill(number, moment):
            os.kill(os.getpid(), signal.SIGKILL)


class Watched(io.FileIO):
    """A file whose every write to the system is an operation."""

    def __init__(self, operations: Operations, path: str, file, mode: str):
        super().__init__(file, mode)
        self.operations, self.path = operations, path

    def write(self, data) -> int:
        content = bytes(data)
        return self.operations.perform(
            "write",
            self.path,
            lambda: super(Watched, self).write(content),
            lambda: super(Watched, self).write(content[: len(content) // 2]),
        )


def start(config: Config, kill: Kill | None = None, record: Path | None = None) -> int:
    """Fork a process that trains, and return its id. It writes its operations to the file `record`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(f"{config.run_dir}.output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        Progress.SECONDS = 1e9  # its lines depend on the time
        evaluator.build_extractor = cheap_extractor
        operations = Operations(Path(str(config.run_dir)), kill)
        operations.install()
        train(config)
        if record:
            record.write_text(json.dumps([[o.verb, o.path] for o in operations.seen]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int) -> int:
    """Wait for a process, and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def places(operations: list[Operation]) -> dict[str, list[Kill]]:
    """Return for each write, by its name and number, where to kill it.

    A write is all that happens to a file that is written under another name first, from its opening to its renaming.
    Of other files, each operation is a write. Before a write is after the one before it: nothing changes between them.
    """
    found: dict[str, list[Kill]] = {}
    for whole, group in itertools.groupby(enumerate(operations), key=lambda pair: write_of(*pair)):
        numbers = [number for number, _ in group]
        first, last, verb = numbers[0], numbers[-1], operations[numbers[0]].verb
        writes = [n for n in numbers if operations[n].verb == "write"]
        kills = [Kill(first, "before")] if first == 0 else []
        chosen = {writes[0], writes[len(writes) // 2], writes[-1]} if writes else set()
        kills += [Kill(n, "inside") for n in sorted(chosen)]
        kills += [Kill(last, "before")] if last != first else []  # written, but not yet renamed
        kills += [Kill(last, "after")]
        found[f"{kind_of(operations[first].path)} {'' if writes else verb + ' '}{whole[0]} #{first}"] = kills
    return found


def write_of(number: int, operation: Operation) -> tuple:
    """Return what the operations of one write have in common."""
    appended = kind_of(operation.path) in ("TensorBoard", "log") or operation.verb in ("unlink", "mkdir")
    return (operation.path, number if appended else None)


def kind_of(path: str) -> str:
    """Return what a file of a run is."""
    return next((kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, path)), "folder")


def differences(run_dir: Path, whole: Path) -> list[str]:
    """Return in what a run differs from the undisturbed one."""
    found = []
    names = [{str(p.relative_to(d)) for p in d.rglob("*") if "tfevents" not in p.name} for d in (run_dir, whole)]
    if names[0] != names[1]:
        found.append(f"files {sorted(names[0] ^ names[1])}")
    for one, two in zip(checkpoints(run_dir), checkpoints(whole), strict=False):
        found += [f"{one.name}: {name}" for name in unequal(load_checkpoint(one), load_checkpoint(two))]
    records = [
        [{k: v for k, v in r.items() if k not in UNSTEADY} for r in read_records(d / "metrics.jsonl")]
        for d in (run_dir, whole)
    ]
    found += ["metrics.jsonl"] * (records[0] != records[1])
    for file in sorted(whole.glob("samples/*.png")):
        found += [file.name] * (file.read_bytes() != (run_dir / "samples" / file.name).read_bytes())
    best = [json.loads((d / "best.json").read_text()) for d in (run_dir, whole)]
    found += ["best.json"] * (best[0] != best[1])
    boards = [board(d) for d in (run_dir, whole)]
    found += [f"TensorBoard: {tag}" for tag in boards[0].keys() | boards[1] if boards[0].get(tag) != boards[1].get(tag)]
    return found


def unequal(one, two, path: str = "") -> list[str]:
    """Return the places in which two nested values differ, apart from the name of the run."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [p for key in one if key != "run_dir" for p in unequal(one[key], two[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [p for i, pair in enumerate(zip(one, two, strict=True)) for p in unequal(*pair, f"{path}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [path]
    return [] if one == two else [path]


def board(run_dir: Path) -> dict:
    """Return what TensorBoard shows of a run, apart from what depends on the time."""
    loaded = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    loaded.Reload()
    tags = loaded.Tags()
    shown: dict = {f"scalar {t}": [(e.step, e.value) for e in loaded.Scalars(t)] for t in tags["scalars"]}
    shown |= {f"image {t}": [(e.step, e.encoded_image_string) for e in loaded.Images(t)] for t in tags["images"]}
    for tag in tags["tensors"]:
        shown[f"tensor {tag}"] = [(e.step, tuple(e.tensor_proto.string_val)) for e in loaded.Tensors(tag)]
    # A repeated evaluation adds the same point once more, and this loader keeps tensors that TensorBoard drops.
    return {t: list(dict.fromkeys(e)) for t, e in shown.items() if t.removeprefix("scalar ") not in UNSTEADY}


class Harness:
    """Kills of copies of one run, compared with the undisturbed one in FOLDER/whole."""

    def __init__(self, folder: Path, images: str):
        self.folder = folder
        self.whole = folder / "whole"
        self.config = load_config(None, [*OPTIONS, f"data.path={images}", f"run_dir={self.whole}"])
        began = time.monotonic()
        self.writes = self.record(self.config)
        self.seconds = time.monotonic() - began

    def record(self, config: Config) -> dict[str, list[Kill]]:
        """Finish a run and return its writes with the places to kill it."""
        record = self.folder / "operations.json"
        if code := finish(start(config, record=record)):
            sys.exit(f"{config.run_dir} ended with {code}: {Path(f'{config.run_dir}.output').read_text()}")
        return places([Operation(*each) for each in json.loads(record.read_text())])

    def config_of(self, name: str) -> Config:
        """Return the configuration of a copy."""
        return replace(self.config, run_dir=str(self.folder / name))

    def kill(self, name: str, kill: Kill, before: Path | None = None) -> None:
        """Kill a run, or one that resumes from a copy of `before`, at a place; resume it, compare it, and print."""
        config = self.config_of("copy")
        if before:
            shutil.copytree(before, str(config.run_dir))
        code = finish(start(config, kill))
        wrong = [] if code == -signal.SIGKILL else [f"ended with {code}, was to be killed"]
        self.conclude(f"{name}, {kill.moment} operation {kill.number}", config, 1, wrong)

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

    def conclude(self, name: str, config: Config, kills: int, found: list[str]) -> None:
        """Resume a killed run, compare it, print what was found, and remove it."""
        if code := finish(start(config)):
            output = Path(f"{config.run_dir}.output").read_text().strip().splitlines()
            found.append(f"the resumed run ended with {code}: {output[-1] if output else ''}")
        else:
            found += differences(Path(str(config.run_dir)), self.whole)
        print(json.dumps({"where": name, "kills": kills, "differences": found[:5]}), flush=True)
        shutil.rmtree(str(config.run_dir), ignore_errors=True)
        Path(f"{config.run_dir}.output").unlink()

    def interrupted(self) -> Path:
        """Return a run that was killed before it named its last checkpoint: it has records to drop, and a leftover."""
        name = next(name for name in self.writes if name.startswith("checkpoint checkpoints/step-00000005.pt"))
        config = self.config_of("interrupted")
        assert finish(start(config, self.writes[name][-2])) == -signal.SIGKILL
        return Path(str(config.run_dir))


def few(writes: dict[str, list[Kill]]) -> dict[str, list[Kill]]:
    """Return one place for each kind of file, inside the last write of it, and those around a checkpoint's renaming."""
    last = {}
    for name, kills in writes.items():
        if inside := [kill for kill in kills if kill.moment == "inside"]:
            last[name.split(" ")[0]] = (name, kills, inside)
    name, kills, _ = last["checkpoint"]
    return {**{name: inside[-1:] for name, _, inside in last.values()}, name: kills[-3:]}


def main(folder: str, images: str, extent: str, kills: str = "0") -> None:
    """Kill at few or all places, and so many times at random."""
    os.environ["SAGAN_CACHE"] = str(Path(folder) / "cache")
    harness = Harness(Path(folder), images)
    chosen = few(harness.writes) if extent == "few" else harness.writes
    for name, places_of in chosen.items():
        for kill in places_of:
            harness.kill(name, kill)
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


if __name__ == "__main__":
    main(*sys.argv[1:])
