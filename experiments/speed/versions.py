"""The speed of a training step in an older checkout and in this one: `python experiments/speed/versions.py CHECKOUT`.

Both versions take turns in one run, so that changing load affects both. Writes versions.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
NARROW = [
    "model.generator.channels=8",
    "model.discriminator.channels=16",
    "training.batch_size=32",
    "data.source=pairs",
    "data.num_classes=0",
]
CASES = {"quickstart": [], "base widths 8 and 16, 32 images": NARROW}
ROUNDS, STEPS = 60, 3


def main(old: Path) -> None:
    """Measure every case in bf16 and float32, and write the table."""
    from sagan.ablation.csv_files import write_table

    cases = [(name, precision) for name in CASES for precision in ("bf16", "float32")]
    write_table([row(old.absolute(), *case) for case in cases], HERE / "versions.csv", ())


def row(old: Path, name: str, precision: str) -> dict:
    """Return the median milliseconds of a step in both versions, and the median of the ratios of each round."""
    options = [*CASES[name], f"training.precision={precision}"]
    workers = {"before": start(old, options), "now": start(HERE.parents[1], options)}
    times: dict[str, list[float]] = {version: [] for version in workers}
    for i in range(ROUNDS):
        for version in sorted(workers, reverse=i % 2 == 1):
            times[version].append(answer(workers[version]))
    for process in workers.values():
        process.communicate()
    found = {f"{version}_ms": f"{1e3 * statistics.median(values):.1f}" for version, values in times.items()}
    ratio = statistics.median(b / n for b, n in zip(times["before"], times["now"], strict=True))
    print(name, precision, found, ratio, flush=True)
    return {"case": name, "precision": precision, **found, "ratio": f"{ratio:.2f}", "rounds": ROUNDS}


def start(checkout: Path, options: list[str]) -> subprocess.Popen:
    """Return a process of a checkout that answers each line with the seconds of a step."""
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--worker", *options]
    process = subprocess.Popen(command, cwd=checkout, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    answer(process)  # its first steps warm it up
    return process


def answer(process: subprocess.Popen) -> float:
    """Return the seconds of a step of a worker, which takes some now."""
    assert process.stdin and process.stdout
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def worker(options: list[str]) -> None:
    """Take `STEPS` steps for every line of the input, and print the seconds of one."""
    step = step_of_checkout(options)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        print((time.perf_counter() - begin) / STEPS, flush=True)


def step_of_checkout(options: list[str]):
    """Return the training step of the checkout whose code is imported, as its own benchmark builds it."""
    import torch

    from sagan import load_config
    from sagan.runtime.device import activation_dtype, keep_freed_memory

    config, device = load_config("quickstart", options), torch.device("cpu")
    if config.data.num_classes is None:
        config = replace(config, data=replace(config.data, num_classes=10))
    dtype = activation_dtype(config.training.precision, device)
    keep_freed_memory()
    try:
        from sagan.benchmark.forms import our_step
    except ImportError:  # before there were modes to choose from
        from sagan.benchmark.step import noise_batches  # pyright: ignore[reportAttributeAccessIssue]
        from sagan.training.state import build_state
        from sagan.training.steps import train_step

        state = build_state(config, device, dtype)
        batches = noise_batches(state)
        return lambda: train_step(state, batches)
    return our_step(config, device, dtype, "auto")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, nargs="?", help="the older version")
    parser.add_argument("--worker", nargs="*", metavar="OPTION", help="time one version; used by this script itself")
    given = parser.parse_args()
    if given.worker is None and not (given.checkout and given.checkout.is_dir()):
        parser.error(f"checkout: {given.checkout} is no folder")
    main(given.checkout) if given.worker is None else worker(given.worker)
