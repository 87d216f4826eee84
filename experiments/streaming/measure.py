"""A packed data set larger than memory: `python -m experiments.streaming.measure`, which writes record.json.

It writes 3 GiB of noise below --folder (default: the folder for temporary files), and reads them in a process that may
use 1 GiB of memory, page cache included, by a cgroup of its own. That takes the rights of root.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from sagan.benchmark.forms import our_step
from sagan.benchmark.step import timed
from sagan.config import DataConfig
from sagan.data import TrainingBatches, find_data
from sagan.data.packed import PackedDataset
from sagan.presets import load_config
from sagan.runtime.device import activation_dtype, device_name

HERE = Path(__file__).parent
GIB = 2**30
SIZE, BATCH = 64, 64
COUNT = 3 * GIB // (SIZE * SIZE * 3)
LIMIT = GIB
PLACES = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
LIMITS = ("memory.limit_in_bytes", "memory.max")


def write(folder: Path) -> None:
    """Write noise as `sagan pack` would; its digest is left out, because nothing reads it here."""
    noise = np.random.default_rng(0).integers(0, 256, (4096, SIZE, SIZE, 3), np.uint8)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (COUNT, SIZE, SIZE, 3))
    for first in range(0, COUNT, len(noise)):
        images[first : first + len(noise)] = noise[: COUNT - first]
    images.flush()
    np.save(folder / "labels.npy", np.zeros(COUNT, np.int64))
    meta = {"format": 1, "count": COUNT, "height": SIZE, "width": SIZE, "channels": 3, "class_names": ["noise"]}
    (folder / "meta.json").write_text(json.dumps({**meta, "source": "noise", "skipped": [], "images_sha256": "0" * 64}))


def enter_limit() -> None:
    """Move this process, and those that it starts, into a cgroup that holds LIMIT bytes."""
    for place, name in zip(PLACES, LIMITS, strict=True):
        group = Path(place) / f"sagan-streaming-{os.getpid()}"
        if not (Path(place) / "cgroup.procs").exists():
            continue
        group.mkdir()
        if (group / name).exists():
            (group / name).write_text(str(LIMIT))
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return
        group.rmdir()
    sys.exit("no memory cgroup can be made here")


def anonymous_mib() -> float:
    """Return the anonymous memory of this process and its workers."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def stream(folder: str, workers: int, how: str, seconds: float) -> dict:
    """Read batches from a cold cache for a number of seconds. Return the rate, and the memory early and late."""
    data = find_data(DataConfig("packed", folder, SIZE))
    if how == "touched one by one":
        PackedDataset.request = lambda self, indices: None  # type: ignore[method-assign]
    data.forget_cached()
    batches, count = iter(TrainingBatches(data, seed=0, batch_size=BATCH, flip=True, workers=workers)), 0
    list(islice(batches, 4))
    early, start = anonymous_mib(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(batches)[0])
    rate, late = count / (time.perf_counter() - start), anonymous_mib()
    return {
        "workers": workers,
        "read": how,
        "images_per_second": rate,
        "anon_mib_early": early,
        "anon_mib_late": late,
        "gib": count * SIZE * SIZE * 3 / GIB,
    }


def step_rate() -> float:
    """Return the images per second that a small network of images of this size consumes."""
    options = ["device=cpu", f"data.resolution={SIZE}", "data.num_classes=10", f"training.batch_size={BATCH}"]
    config = load_config("cifar10", [*options, "model.generator.channels=8", "model.discriminator.channels=16"])
    device = torch.device("cpu")
    step = our_step(config, device, activation_dtype(config.training.precision, device), "auto")
    step()
    return BATCH / statistics.median(timed(step, device) for _ in range(10))


def main() -> None:
    """Measure, and write record.json; or measure one case, in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder")
    parser.add_argument("--case", nargs=3)
    options = parser.parse_args()
    if options.case:
        workers, how, seconds = options.case
        enter_limit()
        return print(json.dumps(stream(options.folder, int(workers), how, float(seconds))))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write(Path(folder))
        cases = []
        for workers, how in ((0, "touched one by one"), (0, "requested"), (2, "requested")):
            command = [sys.executable, "-m", "experiments.streaming.measure", "--folder", folder]
            done = subprocess.run([*command, "--case", str(workers), how, "40"], stdout=subprocess.PIPE, check=True)
            cases.append(json.loads(done.stdout))
            print(cases[-1], flush=True)
    consumed = step_rate()
    fastest = max(c["images_per_second"] for c in cases)
    record = {
        "step_images_per_second": consumed,
        "streamed_per_consumed": fastest / consumed,
        "data_gib": COUNT * SIZE * SIZE * 3 / GIB,
        "limit_gib": LIMIT / GIB,
        "images": COUNT,
        "requested_per_touched": cases[1]["images_per_second"] / cases[0]["images_per_second"],
        "device": device_name(torch.device("cpu")),
        **{f"{c['read'].split()[0]}_{c['workers']}": c for c in cases},
    }
    (HERE / "record.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
