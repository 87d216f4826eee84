"""What many GPUs should reach, on paper: `python -m experiments.scaling.predict`, which writes predicted.csv.

The time of a step is that of one GPU, plus the messages that no computation hides: the gradients of each network in one
sum, and two sums forward and two backward for each synchronized batch norm of G, which every update of D runs forward.
"""

import argparse
import math
from pathlib import Path

from sagan.ablation.csv_files import Row, write_table
from sagan.layers.norm import BatchNorm
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.presets import load_config

HERE = Path(__file__).parent
IMAGES = 64  # of each GPU
# Milliseconds of one H100, by ../speed/README.md: arithmetic for that many images, and kernels.
STEP_MS = {"cifar10": 8 + 5, "imagenet": 80 / 4 + 7}
GPUS = (8, 64, 512)
MACHINE = 8  # GPUs that NVLink joins
# Assumed, in GB/s of a sum over all GPUs and ms for each round of messages, within a machine and beyond it.
BANDWIDTH = {True: 300, False: 150}
ROUND_MS = {True: 0.003, False: 0.01}


def main() -> None:
    """Write a row for each size and number of GPUs."""
    write_table([row(preset, gpus) for preset in STEP_MS for gpus in GPUS], HERE / "predicted.csv", ())


def row(preset: str, gpus: int) -> Row:
    """Return the prediction for a preset's networks on some number of GPUs."""
    config = load_config(preset, ["data.num_classes=10"] if preset == "cifar10" else [])
    generator, discriminator = (build_skeleton(build, config) for build in (build_generator, build_discriminator))
    sizes = [4 * sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]  # bytes
    norms = sum(isinstance(module, BatchNorm) for module in generator.modules())
    step, gradients = STEP_MS[preset], sum(sum_ms(size, gpus) for size in sizes)
    statistics = norms * (2 + 2 + 2) * sum_ms(0, gpus)  # forward for D; forward and backward for G
    return {
        "preset": preset,
        "gpus": str(gpus),
        "batch": str(gpus * IMAGES),
        "step_ms": f"{step:.1f}",
        "gradients_mb": f"{sum(sizes) / 1e6:.0f}",
        "gradients_ms": f"{gradients:.1f}",
        "statistics_ms": f"{statistics:.1f}",
        "efficiency": f"{step / (step + gradients):.2f}",
        "efficiency_synchronized": f"{step / (step + gradients + statistics):.2f}",
    }


def sum_ms(size: int, gpus: int) -> float:
    """Return the milliseconds of a sum of `size` bytes over all GPUs: a ring for the bytes, a tree for the rounds."""
    local = gpus <= MACHINE
    ring = 2 * (gpus - 1) / gpus * size / (1e6 * BANDWIDTH[local])
    return ring + 2 * math.ceil(math.log2(gpus)) * ROUND_MS[local]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
