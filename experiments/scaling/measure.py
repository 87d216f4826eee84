"""How a run scales with its processes: `python -m experiments.scaling.measure`, which writes two tables.

Processes of `torchrun` train, evaluate and average gradients, each with the work that a single one has. 1, 2 and 4
processes take turns, so that changing load affects all of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sagan.ablation.csv_files import Row, write_table
from sagan.api import evaluate, train
from sagan.config import Config
from sagan.models.build import build_discriminator, build_generator
from sagan.presets import load_config
from sagan.runs.records import read_records
from sagan.runtime.distributed import average, barrier, is_main, process_group, world_size

HERE = Path(__file__).parent
PROCESSES = (1, 2, 4)
ROUNDS = 2
BATCH = 32  # images of each process
STEPS = 60
SAMPLES = 500  # of each evaluation, whatever the number of processes
OPTIONS = (
    "device=cpu",
    "data.source=shapes",
    "data.num_classes=10",
    "model.generator.channels=8",
    "model.discriminator.channels=16",
    "training.precision=float32",
    f"training.steps={STEPS}",
    "logging.every=10",
    "evaluation.every=0",  # `worker` does that by itself
)


def main() -> None:
    """Measure in rounds, and write training.csv and evaluation.csv."""
    cases: dict[int, list[dict]] = {n: [] for n in PROCESSES}
    for _ in range(ROUNDS):
        for n in PROCESSES:
            cases[n].append(case(n))
            print(n, cases[n][-1], flush=True)
    medians = {n: {key: statistics.median(c[key] for c in found) for key in found[0]} for n, found in cases.items()}
    write_table([training_row(n, medians) for n in PROCESSES], HERE / "training.csv", ())
    write_table([evaluation_row(n, medians) for n in PROCESSES], HERE / "evaluation.csv", ())


def case(processes: int) -> dict:
    """Return what `worker` measures in that many processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "SAGAN_CACHE": f"{folder}/cache"}
        command = [*launcher, "-m", "experiments.scaling.measure", "--worker", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def worker(folder: str) -> None:
    """Train and evaluate in this process and its peers. Print images/s, and seconds of an average and a score."""
    with process_group(torch.device("cpu")):
        run, batch = Path(folder) / "run", BATCH * world_size()
        config = load_config("cifar10", [*OPTIONS, f"training.batch_size={batch}", f"run_dir={run}"])
        train(config)
        records = read_records(run / "metrics.jsonl")
        speeds = [r["speed/images_per_second"] for r in records if "speed/images_per_second" in r]
        found = {"images_per_second": statistics.median(speeds[1:])}
        found |= {"average_narrow": seconds_of_averages(config)}
        found |= {"average_full": seconds_of_averages(load_config("cifar10", ["data.num_classes=10"]))}
        barrier()
        start = time.perf_counter()
        evaluate(
            run,
            [f"num_samples={SAMPLES}", f"num_real={SAMPLES}", "extractor.name=efficientnet-lite0"],
            device="cpu",
        )
        found |= {"evaluation": time.perf_counter() - start}
        if is_main():
            print(json.dumps(found))


def seconds_of_averages(config: Config) -> float:
    """Return the median time in which the processes average the gradients of both networks."""
    gradients = [
        [torch.randn_like(p) for p in build(config).parameters()] for build in (build_generator, build_discriminator)
    ]
    times = []
    for _ in range(10):
        barrier()
        start = time.perf_counter()
        for of_network in gradients:
            average(of_network)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def training_row(n: int, medians: dict[int, dict]) -> Row:
    """Return the row of training.csv for a number of processes."""
    rate, alone = medians[n]["images_per_second"], medians[1]["images_per_second"]
    return {
        "processes": str(n),
        "batch": str(n * BATCH),
        "images_per_second": f"{rate:.1f}",
        "efficiency": f"{rate / (n * alone):.2f}",
        "step_ms": f"{1e3 * n * BATCH / rate:.0f}",
        "average_ms": f"{1e3 * medians[n]['average_narrow']:.1f}",
        "average_full_width_ms": f"{1e3 * medians[n]['average_full']:.1f}",
    }


def evaluation_row(n: int, medians: dict[int, dict]) -> Row:
    """Return the row of evaluation.csv for a number of processes."""
    seconds = medians[n]["evaluation"]
    return {
        "processes": str(n),
        "seconds": f"{seconds:.1f}",
        "speedup": f"{medians[1]['evaluation'] / seconds:.2f}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", metavar="FOLDER", help="run as one of the processes; used by this script itself")
    folder = parser.parse_args().worker
    worker(folder) if folder else main()
