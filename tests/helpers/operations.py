"""What a process writes in a run directory, one operation after another, and where to kill it."""

import builtins
import io
import itertools
import os
import re
import signal
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

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
    """A place to die: before, inside or after the operation of this number in a thread.

    The threads of a run may take turns in another order each time, but each does the same in the same order.
    """

    thread: str
    number: int
    moment: str


class Operations:
    """The operations of each thread in a run directory, in order: recorded, and killed at one of them."""

    def __init__(self, run_dir: Path, kill: Kill | None):
        self.run_dir = run_dir
        self.kill = kill
        self.seen: dict[str, list[Operation]] = defaultdict(list)

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
        thread = "main" if threading.current_thread() is threading.main_thread() else "writer"
        before, inside, after = (Kill(thread, len(self.seen[thread]), m) for m in ("before", "inside", "after"))
        self.seen[thread].append(Operation(verb, path))
        self.die(before)
        if half is not None and self.kill == inside:
            half()
        self.die(inside)
        result = do()
        self.die(after)
        return result

    def die(self, here: Kill) -> None:
        """Kill this process if this is the place."""
        if self.kill == here:
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


def places(operations: dict[str, list[Operation]]) -> dict[str, list[Kill]]:
    """Return for each write of each thread, by its name and number, where to kill it."""
    return {name: kills for thread, its in operations.items() for name, kills in places_in(thread, its).items()}


def places_in(thread: str, operations: list[Operation]) -> dict[str, list[Kill]]:
    """Return the places in a thread.

    A write is all that happens to a file that is written under another name first, from its opening to its renaming.
    Of other files, each operation is a write. Before a write is after the one before it: the thread changes nothing
    between them.
    """
    found: dict[str, list[Kill]] = {}
    for whole, group in itertools.groupby(enumerate(operations), key=lambda pair: write_of(*pair)):
        numbers = [number for number, _ in group]
        first, last, verb = numbers[0], numbers[-1], operations[numbers[0]].verb
        writes = [n for n in numbers if operations[n].verb == "write"]
        kills = [Kill(thread, first, "before")] if first == 0 else []
        chosen = {writes[0], writes[len(writes) // 2], writes[-1]} if writes else set()
        kills += [Kill(thread, n, "inside") for n in sorted(chosen)]
        kills += [Kill(thread, last, "before")] if last != first else []  # written, but not yet renamed
        kills += [Kill(thread, last, "after")]
        found[f"{kind_of(operations[first].path)} {'' if writes else verb + ' '}{whole[0]} #{thread} {first}"] = kills
    return found


def write_of(number: int, operation: Operation) -> tuple:
    """Return what the operations of one write have in common."""
    appended = kind_of(operation.path) in ("TensorBoard", "log") or operation.verb in ("unlink", "mkdir")
    return (operation.path, number if appended else None)


def kind_of(path: str) -> str:
    """Return what a file of a run is."""
    return next((kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, path)), "folder")
