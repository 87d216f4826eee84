"""The sample sheet of a report: images of every variant from the same z and y."""

import logging
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from sagan.ablation.figures import save
from sagan.ablation.names import title_lines
from sagan.ablation.outcomes import obstacle
from sagan.ablation.variants import Job
from sagan.config import UserError
from sagan.models.origin import origin_of
from sagan.runs.directory import checkpoints
from sagan.runs.networks import load_generator
from sagan.runtime.pictures import to_uint8
from sagan.viewing.capture import fixed_inputs

GRID_IMAGES = 10
INCH = 0.8  # of an image
FONT_SIZE = 8


@torch.no_grad()
def sample_sheet(jobs: list[Job], file: Path, seed: int, names: dict[str, str]) -> None:
    """Draw a row of images for every variant with a checkpoint for a seed, and the classes above the columns.

    `names` are what the picture calls the variants. A checkpoint that cannot be read is left out with a warning.
    Without any, nothing is drawn, and an existing picture is kept.
    """
    rows: dict[str, np.ndarray] = {}
    titles: list[str] = []
    for job in jobs:
        if job.seed != seed or not checkpoints(job.run_dir):
            continue
        try:
            if obstacle(job):
                continue
            generator = load_generator(job.run_dir)
            z, y = fixed_inputs(generator, GRID_IMAGES)
            origin = origin_of(generator)
            classes = [] if y is None else y.tolist()
            titles = titles or [heading(origin.class_name(c), f"class {c}") for c in classes]
        except UserError as error:  # DamagedError is one
            logging.getLogger("sagan").warning("left out of %s: %s", file.name, error)
            continue
        images = to_uint8(generator(z, y)).cpu().expand(-1, 3, -1, -1)
        rows[f"{names[job.variant]}\nstep {origin.step:,}"] = images.permute(0, 2, 3, 1).numpy()  # (n, H, W, 3)
    if rows:
        draw_sheet(rows, titles, file)


def heading(name: str, otherwise: str) -> str:
    """Return a name in lines that fit above an image, or `otherwise` if it cannot be written.

    Matplotlib would read what stands between two $ as a formula.
    """
    return "\n".join(title_lines(name, otherwise, FONT_SIZE, 72 * INCH)).replace("$", r"\$")


def draw_sheet(rows: dict[str, np.ndarray], titles: list[str], file: Path) -> None:
    """Draw a sheet: for each name a row of uint8 images (n, H, W, 3), with titles above the columns."""
    height, width = next(iter(rows.values())).shape[1:3]
    size = (INCH * GRID_IMAGES, INCH * height / width * len(rows))
    figure, axes = plt.subplots(len(rows), GRID_IMAGES, figsize=size, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.04, hspace=0.06)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, interpolation="nearest", aspect="equal")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=FONT_SIZE)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=FONT_SIZE)
    save(figure, file.with_suffix(""), ("png",))
