"""Draws the curves of a run from its metrics.jsonl: python samples/curves.py RUN OUT.png (needs matplotlib)."""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from sagan.runs.records import read_records

PANELS = {
    "hinge losses": ["loss/discriminator", "loss/generator"],
    "mean logits": ["logits/real", "logits/fake"],
    "accuracy of D": ["accuracy/real", "accuracy/fake"],
    "gamma of attention": "attention/gamma/",
    "entropy of attention maps (1: uniform)": "attention/entropy/",
    "spread of a pixel over a batch": ["spread/real", "spread/fake"],
}


def smooth(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Return the running mean over `width` records, shorter at the ends."""
    kernel = np.ones(min(width, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def main(run: Path, out: Path) -> None:
    records = read_records(run / "metrics.jsonl")
    figure, axes = plt.subplots(2, 3, figsize=(13, 6.5), constrained_layout=True)
    for axis, (title, wanted) in zip(axes.flat, PANELS.items(), strict=True):
        names = wanted if isinstance(wanted, list) else sorted({k for r in records for k in r if k.startswith(wanted)})
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            steps, values = np.array(points).T
            (line,) = axis.plot(steps, values, alpha=0.25, linewidth=0.8)
            label = name.split("/")[-1].replace(".attention", "").replace(".blocks.", ", block ")
            axis.plot(steps, smooth(values), color=line.get_color(), linewidth=1.6, label=label)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
    figure.suptitle(f"{run.name}: each record, and the mean over 9")
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    main(options.run, options.out)
