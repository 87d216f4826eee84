"""What a run writes about itself: metrics.jsonl (the record), log.txt (what the terminal said), TensorBoard (a log)."""

import json
import os
import time
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from sagan.checkpoint import write_atomically
from sagan.config import UserError


class RunLog:
    """Writers of one run directory. In processes other than the main one (`active` false) every method does nothing."""

    def __init__(self, run_dir: Path, step: int, active: bool = True):
        self.active, self.run_dir = active, run_dir
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        forget_after(run_dir / "metrics.jsonl", step)
        self.metrics = open(run_dir / "metrics.jsonl", "a")  # noqa: SIM115
        self.text = open(run_dir / "log.txt", "a")  # noqa: SIM115
        self.board = SummaryWriter(str(run_dir), purge_step=step + 1 if step else None)

    def say(self, *lines: str) -> None:
        """Prints lines, above the progress bar, and adds them to log.txt."""
        if not self.active:
            return
        for line in lines:
            tqdm.write(line)
            self.text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        self.text.flush()

    def record(self, step: int, values: dict[str, float], *, group: str = "", **extra) -> None:
        """Appends one line to metrics.jsonl, and the values to TensorBoard, with `group` before their names."""
        if not self.active:
            return
        self.metrics.write(json.dumps({"step": step, **extra, **values}) + "\n")
        self.metrics.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{group}{name}", value, step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Adds a uint8 image (C, H, W) to TensorBoard."""
        if self.active:
            self.board.add_image(name, image, step)
            self.board.flush()

    def close(self) -> None:
        if self.active:
            self.board.close()
            self.metrics.close()
            self.text.close()


def append_record(run_dir: Path, record: dict) -> None:
    """Adds a line to the metrics.jsonl of a run that is not under way."""
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


def read_records(file: Path) -> list[dict]:
    """The records of a metrics.jsonl; a last line that a killed process left unfinished is passed over."""
    records = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def forget_after(file: Path, step: int) -> None:
    """Drops the records of steps after `step`: a resumed run takes those steps again."""
    if not file.is_file():
        return
    kept = [r for r in read_records(file) if r.get("step", 0) <= step]
    text = "".join(json.dumps(r) + "\n" for r in kept)
    write_atomically(file, lambda f: f.write(text.encode()))


def prepare_run_dir(run_dir: Path) -> None:
    """Makes the folders of a run. Raises UserError, naming the folder, where they cannot be written."""
    try:
        for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(f"no permission to write in {folder}")
    except OSError as error:
        raise UserError(f"run_dir {run_dir}: {error}") from error
