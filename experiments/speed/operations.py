"""Which operations a training step spends its time in: `python -m experiments.speed.operations`.

Writes operations.csv: the share of each group of operations in the CPU time of `quickstart` steps on one thread.
"""

import argparse
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from sagan.ablation.csv_files import Row, write_table
from sagan.benchmark.forms import our_step
from sagan.presets import load_config
from sagan.runtime.device import prepare

HERE = Path(__file__).parent
STEPS = 20
# A group takes the operations whose names contain one of these words, in this order.
GROUPS = {
    "gradients of convolutions": ("convolution_backward",),
    "convolutions": ("convolution",),
    "attention": ("scaled_dot_product",),
    "batch norm": ("batch_norm",),
    "ReLU and its gradient": ("threshold_backward", "relu", "clamp_min"),
    "sums, products and copies": ("aten::mul", "aten::add", "aten::div", "aten::sum", "aten::copy_", "foreach"),
}
REST = "everything else"


def main() -> None:
    """Profile some steps and write the table."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    prepare(device)
    step = our_step(load_config("quickstart", ["data.num_classes=10"]), device, torch.float32, "eager")
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(STEPS):
            step()
    times = dict.fromkeys([*GROUPS, REST], 0.0)
    for event in found.key_averages():
        times[group_of(event.key)] += event.self_cpu_time_total
    whole = sum(times.values())
    rows: list[Row] = [{"operations": name, "percent": f"{100 * time / whole:.1f}"} for name, time in times.items()]
    write_table(rows, HERE / "operations.csv", ("operations",))


def group_of(operation: str) -> str:
    """Return the group of an operation."""
    return next((name for name, words in GROUPS.items() if any(word in operation for word in words)), REST)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
