"""What a long run holds on to: `python -m experiments.soak.measure [STEPS]`.

Trains a tiny run in a process of its own, and reads its memory, open files, threads and child processes from /proc.
Writes measurements.json, summary.csv and soak.png beside this file.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib

from sagan.runs.records import last_recorded_step

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
OPTIONS = {
    "device": "cpu",
    "data.memory_gb": 0,
    "data.workers": 2,
    "model.generator.channels": 4,
    "model.discriminator.channels": 4,
    "training.batch_size": 4,
    "training.precision": "float32",
    "logging.every": 20,
    "logging.images_every": 200,
    "logging.attention_every": 200,
    "checkpoint.every": 200,
    "evaluation.every": 500,
    "evaluation.num_samples": 16,
    "evaluation.num_real": 16,
    "evaluation.extractor.name": "efficientnet-lite0",
}
SECONDS = 2.0  # between measurements
QUANTITIES = {
    "resident_mib": "resident memory, MiB",
    "files": "open files",
    "threads": "threads",
    "children": "child processes",
    "children_mib": "resident memory of the children, MiB",
}


def main(steps: int) -> None:
    """Run, measure, and write the three files."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        options = {**OPTIONS, "training.steps": steps, "run_dir": run_dir}
        words = [f"--{key}={value}" for key, value in options.items()]
        process = subprocess.Popen([sys.executable, "-m", "sagan", "train", "quickstart", *words])
        rows, start = [], time.monotonic()
        while process.poll() is None:
            if (step := last_recorded_step(run_dir)) and (found := measure(process.pid)):
                rows.append({"step": step, "seconds": round(time.monotonic() - start, 1), **found})
            time.sleep(SECONDS)
        if process.returncode:
            sys.exit(process.returncode)
    (HERE / "measurements.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    write_summary(rows, steps)
    draw(rows)


def measure(pid: int) -> dict[str, float]:
    """Return what a process holds now; nothing if it or a child ends meanwhile."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {
            "resident_mib": resident(pid),
            "files": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "children": len(children),
            "children_mib": round(sum(resident(int(child)) for child in children), 1),
        }
    except (OSError, IndexError):
        return {}


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def write_summary(rows: list[dict], steps: int) -> None:
    """Write the median of each quantity over each tenth of the run that the table shows, and the highest value."""
    tenths = {"second tenth": (0.1, 0.2), "sixth tenth": (0.5, 0.6), "last tenth": (0.9, 1.0)}
    with open(HERE / "summary.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["quantity", *tenths, "highest"])
        for name, title in QUANTITIES.items():
            parts = [[r[name] for r in rows if a * steps < r["step"] <= b * steps] for a, b in tenths.values()]
            values = [statistics.median(part) for part in parts]
            writer.writerow([title, *(f"{v:g}" for v in (*values, max(r[name] for r in rows)))])


def draw(rows: list[dict]) -> None:
    """Draw each quantity against the steps."""
    figure, axes = plt.subplots(len(QUANTITIES), 1, sharex=True, figsize=(8, 9), layout="constrained")
    for axis, (name, title) in zip(axes, QUANTITIES.items(), strict=True):
        axis.plot([r["step"] for r in rows], [r[name] for r in rows], linewidth=1)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylim(0, 1.15 * max(r[name] for r in rows))
    axes[-1].set_xlabel("step")
    figure.savefig(HERE / "soak.png", dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int, nargs="?", default=20_000)
    main(parser.parse_args().steps)
