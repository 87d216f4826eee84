"""`sagan sample`: grids, folders and arrays of generated images, interpolations, and nearest training images."""

from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sagan.checkpoint import write_atomically
from sagan.config import ConfigError, DataConfig, ExtractorConfig
from sagan.data import Dataset, open_data
from sagan.device import choose_device
from sagan.evaluation import build_extractor
from sagan.generate import image_sampler, load_generator, set_standing_statistics
from sagan.images import image_grid, save_png, to_uint8
from sagan.models.generator import Generator
from sagan.random import latents


@dataclass(frozen=True)
class SampleOptions:
    """What to generate."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    num: int | None = None
    """Images; null: ten of each class."""
    classes: list[int] | None = None
    """Numbers of the classes; null: all (the first ten in a grid)."""
    seed: int = 0
    """Image i of a seed is always the same image, whatever num and batch_size are."""
    truncation: float = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""
    interpolate: Literal["z", "classes"] | None = None
    """Rows that go from one latent vector to another, or from one class to the next."""
    out: str | None = None
    """FILE.png: one grid; FILE.npz: arrays images (N, H, W, C) and labels; else a folder of PNG files."""
    nearest: str | None = None
    """Folder of (class folders of) training images: shows each sample beside its nearest ones."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    """Whose features say what is near, beside pixels."""
    ema: bool = True
    """The moving average of the generator, where there is one, not the generator itself."""
    standing_statistics: int = 0
    """Batches over which the statistics of batch norm are taken anew first; 0: the running ones."""
    batch_size: int = 64
    """Images at a time."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU where there is one."""


def sample(run: str, options: SampleOptions) -> Path:
    """Generates what the options ask for from a run, a checkpoint or an exported file; returns where it lies.

    Raises ConfigError for options that the generator cannot follow, UserError for files that cannot be read or written.
    """
    device = choose_device(options.device)
    generator = load_generator(run, checkpoint=options.checkpoint, ema=options.ema, device=device)
    classes = chosen_classes(options.classes, generator.num_classes)
    if options.standing_statistics:
        set_standing_statistics(generator, options.standing_statistics, options.batch_size, options.seed)
    out = Path(options.out) if options.out else default_out(run, generator, options)
    if options.interpolate:
        image = interpolation(generator, options, classes[:10])
        save_png(image, as_png(out, "--interpolate"))
    elif options.nearest:
        image = nearest_images(generator, options, classes)
        save_png(image, as_png(out, "--nearest"))
    elif out.suffix == ".png":
        classes = classes if options.classes else classes[:10]
        images, _ = generate(generator, options, classes)
        save_png(by_class(images, len(classes)), out)
    else:
        images, y = generate(generator, options, classes)
        (save_npz if out.suffix == ".npz" else save_folder)(images, y, out)
    return out


def chosen_classes(asked: list[int] | None, num_classes: int) -> list[int]:
    """The classes to show; none for an unconditional generator. Raises ConfigError for one that does not exist."""
    wrong = [c for c in asked or [] if not 0 <= c < num_classes]
    if wrong:
        raise ConfigError(f"--classes {asked}: the generator has {num_classes} classes, numbered from 0")
    return list(range(num_classes)) if asked is None else asked


def generate(generator: Generator, options: SampleOptions, classes: list[int]) -> tuple[Tensor, Tensor | None]:
    """uint8 images (num, C, H, W) and labels (num,): image i has the i-th latent vector and class i modulo k."""
    num = options.num or 10 * (len(classes) or 10)
    y = torch.tensor(classes)[torch.arange(num) % len(classes)] if classes else None
    draw = image_sampler(generator, options.seed, options.truncation)
    starts = tqdm(range(0, num, options.batch_size), desc="generating", disable=None, leave=False)
    parts = []
    for start in starts:
        stop = min(start + options.batch_size, num)
        parts.append(draw(start, stop, None if y is None else y[start:stop]).cpu())
    return torch.cat(parts), y


def by_class(images: Tensor, rows: int) -> Tensor:
    """The grid of `generate`'s images with a class in each row; ten in a row without classes."""
    if rows == 0:
        return image_grid(images, 10)
    columns = -(-len(images) // rows)
    blank = torch.full((columns * rows - len(images), *images.shape[1:]), 255, dtype=torch.uint8)
    images = torch.cat([images, blank]).unflatten(0, (columns, rows)).transpose(0, 1).flatten(0, 1)
    return image_grid(images, columns)


@torch.no_grad()
def interpolation(generator: Generator, options: SampleOptions, classes: list[int], columns: int = 10) -> Tensor:
    """A grid whose rows go from one latent vector to another in a class, or from a class to the next for one vector."""
    if options.interpolate == "classes" and len(classes) < 2:
        raise ConfigError(f"--interpolate classes: expected two classes or more, given {classes or 'an unconditional run'}")
    rows, device = max(len(classes), 1), next(generator.parameters()).device
    ends = latents(options.seed, "sample", 0, 2 * rows, generator.z_dim, options.truncation).to(device)
    one_hot = torch.eye(max(generator.num_classes, 1), device=device)[classes or [0]]  # (rows, num_classes)
    grid = []
    for row in range(rows):
        t = torch.linspace(0, 1, columns, device=device)[:, None]
        if options.interpolate == "z":
            z, y = slerp(ends[2 * row], ends[2 * row + 1], t), one_hot[row].expand(columns, -1)
        else:
            z, y = ends[:1].expand(columns, -1), torch.lerp(one_hot[row], one_hot[(row + 1) % rows], t)
        grid.append(to_uint8(generator(z, y if generator.num_classes else None)))
    return image_grid(torch.cat(grid), columns)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Between vectors a and b (d,) along the arc, at t (n, 1) from 0 to 1: (n, d).

    Latent vectors lie near a sphere of radius sqrt(d); a straight line would leave it (White 2016).
    """
    angle = torch.acos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def nearest_images(generator: Generator, options: SampleOptions, classes: list[int], neighbours: int = 5) -> Tensor:
    """A row for each sample: the sample, its nearest training images by pixels, then by features."""
    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    config = generator.config.data
    data = open_data(DataConfig("folder", options.nearest, config.resolution, config.channels, on_error=config.on_error))
    images, _ = generate(generator, replace(options, num=options.num or 10), classes)
    spaces = (lambda x: x.flatten(1).float(), lambda x: extractor(x)[0].float().cpu())
    found = [nearest(space(images), space, data, options.batch_size, neighbours) for space in spaces]
    columns = [images[:, None], *(data.batch(f.flatten()).cpu().unflatten(0, f.shape) for f in found)]
    return image_grid(torch.cat(columns, 1).flatten(0, 1), 1 + 2 * neighbours)


def nearest(queries: Tensor, space, data: Dataset, batch_size: int, k: int) -> Tensor:
    """Indices (n, k) of the images of a data set that are nearest to queries (n, d) in a space, nearest first."""
    distances = []
    for index in tqdm(torch.arange(len(data)).split(batch_size), desc="training images", disable=None, leave=False):
        distances.append(torch.cdist(queries, space(data.batch(index).cpu())))
    return torch.cat(distances, 1).topk(min(k, len(data)), largest=False).indices


def save_folder(images: Tensor, y: Tensor | None, out: Path) -> None:
    """One PNG file an image, named by its index and class, such as 00012-3.png."""
    for i, image in enumerate(images):
        name = f"{i:05d}.png" if y is None else f"{i:05d}-{int(y[i])}.png"
        save_png(image, out / name, enlarge=False)


def save_npz(images: Tensor, y: Tensor | None, out: Path) -> None:
    """Arrays `images`, uint8 (N, H, W, C), and `labels`, int64 (N,), if there are any."""
    buffer = BytesIO()
    arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
    np.savez(buffer, **arrays if y is None else {**arrays, "labels": y.numpy()})
    write_atomically(out, lambda file: file.write(buffer.getbuffer()))


def default_out(run: str, generator: Generator, options: SampleOptions) -> Path:
    """RUN/samples/... for a run; beside the working directory for a file."""
    kind = "nearest" if options.nearest else f"interpolate-{options.interpolate}" if options.interpolate else "grid"
    name = f"{kind}-step-{generator.step:08d}-seed-{options.seed}.png"
    return Path(run) / "samples" / name if Path(run).is_dir() else Path(name)


def as_png(out: Path, option: str) -> Path:
    """`out`, if it is the name of a PNG file. Raises ConfigError otherwise."""
    if out.suffix != ".png":
        raise ConfigError(f"--out {out}: {option} makes one picture; expected a name that ends in .png")
    return out
