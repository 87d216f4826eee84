"""`sagan sample`: grids, folders and arrays of generated images, interpolations, and nearest training images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from sagan.checks import nearest_source
from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import Dataset, open_data
from sagan.evaluation import build_extractor
from sagan.models.generator import Generator
from sagan.models.sampling import image_sampler, set_standing_statistics
from sagan.options import SampleOptions
from sagan.runs.directory import run_directory
from sagan.runs.networks import load_generator
from sagan.runtime.device import choose_device
from sagan.runtime.draws import latents
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import image_grid, save_png, to_uint8

ROWS, COLUMNS = 10, 10  # of a grid, where nobody asks for others
NEIGHBOURS = 5


def sample(run: str, options: SampleOptions) -> str:
    """Generates what the options ask for from a run, a checkpoint or an exported file; says where it lies.

    Raises ConfigError for options that the generator cannot follow, UserError for files that cannot be read or written.
    """
    device = choose_device(options.device)
    generator = load_generator(run, checkpoint=options.checkpoint, ema=options.ema, device=device)
    classes = chosen_classes(options.classes, generator.num_classes)
    shown = classes if options.classes else classes[:ROWS]  # in one picture
    out = Path(options.out) if options.out else default_out(run, generator, options)
    if options.standing_statistics:
        set_standing_statistics(generator, options.standing_statistics, options.batch_size, options.seed)
    if options.interpolate:
        save_png(interpolation(generator, options, shown), out)
    elif options.nearest:
        save_png(nearest_images(generator, options, shown), out)
        by = f"by pixels (middle) and by features of {options.extractor.name} (right)"
        return f"{out}: samples (left), and their {NEIGHBOURS} nearest training images {by}"
    elif out.suffix == ".png":
        images, _ = generate(generator, options, shown)
        save_png(by_class(images, len(shown)), out)
    elif out.suffix == ".npz":
        save_npz(*generate(generator, options, classes), out)
    else:
        names = file_names(number_of_images(options, classes), classes)
        refuse_strangers(out, names)
        images, _ = generate(generator, options, classes)
        save_folder(images, names, out)
    return str(out)


def chosen_classes(asked: list[int] | None, num_classes: int) -> list[int]:
    """The classes to show; none for an unconditional generator. Raises ConfigError for one that does not exist."""
    if asked and num_classes == 0:
        raise ConfigError(f"--classes {asked}: the generator is unconditional, it has no classes")
    if any(not 0 <= c < num_classes for c in asked or []):
        raise ConfigError(f"--classes {asked}: the generator has {num_classes} classes, 0 to {num_classes - 1}")
    return list(range(num_classes)) if asked is None else asked


def number_of_images(options: SampleOptions, classes: list[int]) -> int:
    """`--num`, or ten of each class."""
    return options.num or COLUMNS * (len(classes) or ROWS)


def generate(generator: Generator, options: SampleOptions, classes: list[int]) -> tuple[Tensor, Tensor | None]:
    """uint8 images (num, C, H, W) and labels (num,): image i has the i-th latent vector and class i modulo k."""
    num = number_of_images(options, classes)
    y = torch.tensor(classes)[torch.arange(num) % len(classes)] if classes else None
    draw = image_sampler(generator, options.seed, options.truncation)
    parts = []
    for index in progress(torch.arange(num).split(options.batch_size), "generating"):
        start, stop = int(index[0]), int(index[-1]) + 1
        parts.append(draw(start, stop, None if y is None else y[start:stop]).cpu())
    return torch.cat(parts), y


def by_class(images: Tensor, rows: int) -> Tensor:
    """The grid of `generate`'s images with a class in each row; ten in a row without classes."""
    rows = min(rows, len(images))
    if rows == 0:
        return image_grid(images, COLUMNS)
    columns = -(-len(images) // rows)
    blank = torch.full((columns * rows - len(images), *images.shape[1:]), 255, dtype=torch.uint8)
    images = torch.cat([images, blank]).unflatten(0, (columns, rows)).transpose(0, 1).flatten(0, 1)
    return image_grid(images, columns)


@torch.no_grad()
def interpolation(generator: Generator, options: SampleOptions, classes: list[int]) -> Tensor:
    """A grid whose rows go from one latent vector to another in a class, or from a class to the next."""
    device, columns = next(generator.parameters()).device, options.num or COLUMNS
    t = torch.linspace(0, 1, columns, device=device)[:, None]  # (columns, 1)
    one_hot = torch.eye(generator.num_classes, device=device)[classes]  # (classes, num_classes)
    if options.interpolate == "classes":
        if len(classes) < 2:
            raise ConfigError(f"--interpolate classes: the generator has {len(classes)} classes, at least 2 needed")
        z = latents(options.seed, "sample", 0, 1, generator.z_dim, options.truncation).to(device)
        rows = [(z.expand(columns, -1), torch.lerp(a, b, t)) for a, b in zip(one_hot, one_hot[1:], strict=False)]
    else:
        count = len(classes) or ROWS
        z = latents(options.seed, "sample", 0, 2 * count, generator.z_dim, options.truncation).to(device)
        ways = [slerp(a, b, t) for a, b in zip(z[::2], z[1::2], strict=True)]
        rows = [(way, one_hot[i].expand(columns, -1) if classes else None) for i, way in enumerate(ways)]
    images = []
    for z, y in progress(rows, "generating"):
        for i in range(0, columns, options.batch_size):
            part = slice(i, i + options.batch_size)
            images.append(to_uint8(generator(z[part], None if y is None else y[part])))
    return image_grid(torch.cat(images), columns)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Between vectors a and b (d,) along the arc, at t (n, 1) from 0 to 1: (n, d).

    Latent vectors lie near a sphere of radius sqrt(d); a straight line would leave it (White 2016).
    """
    angle = torch.acos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def nearest_images(generator: Generator, options: SampleOptions, classes: list[int]) -> Tensor:
    """A row for each sample: the sample; its nearest training images by pixels; those by features."""
    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    data = open_data(training_data(options.nearest, generator.origin.config.data))
    images, _ = generate(generator, replace(options, num=options.num or ROWS), classes)
    spaces = (lambda x: x.flatten(1).float(), lambda x: extractor(x)[0])
    found = nearest(images, data, spaces, options.batch_size)
    blocks = [image_grid(images, 1), *(image_grid(data.batch(f.flatten()), f.shape[1]) for f in found)]
    gap = torch.full((*blocks[0].shape[:2], images.shape[-1] // 4), 255, dtype=torch.uint8)
    return torch.cat([blocks[0], gap, blocks[1], gap, blocks[2]], dim=-1)


def training_data(name: str, config: DataConfig) -> DataConfig:
    """The data set that `--nearest` names, with images like those of the generator's own `config`."""
    source = nearest_source(name)
    path = name if source in ("folder", "packed") else config.path if source == config.source else None
    return replace(config, source=source, path=path, num_classes=None)


def nearest(images: Tensor, data: Dataset, spaces: tuple[Callable, ...], batch_size: int) -> list[Tensor]:
    """For each space, a function from uint8 images to vectors: the indices (n, k) of the images of a data set that are
    nearest to `images` (n, C, H, W) there, nearest first."""
    queries = [space(images) for space in spaces]
    best = [(torch.empty(len(images), 0), torch.empty(len(images), 0, dtype=torch.long)) for _ in spaces]
    for index in progress(torch.arange(len(data)).split(batch_size), "training images"):
        batch = data.batch(index).cpu()
        for i, space in enumerate(spaces):
            # The default goes through a matrix product, which cannot tell a copy from a near copy.
            new = torch.cdist(queries[i], space(batch), compute_mode="donot_use_mm_for_euclid_dist")
            distances = torch.cat([best[i][0], new], 1)
            indices = torch.cat([best[i][1], index.expand(len(images), -1)], 1)
            kept = distances.topk(min(NEIGHBOURS, distances.shape[1]), largest=False)
            best[i] = kept.values, indices.gather(1, kept.indices)
    return [indices for _, indices in best]


def file_names(num: int, classes: list[int]) -> list[str]:
    """One name an image, of its index and class, such as 00012-3.png."""
    return [f"{i:05d}-{classes[i % len(classes)]}.png" if classes else f"{i:05d}.png" for i in range(num)]


def refuse_strangers(folder: Path, names: list[str]) -> None:
    """Raises ConfigError where other images lie in the folder: nobody could tell them from the new ones."""
    strangers = {p.name for p in folder.glob("*.png")} - set(names)
    if strangers:
        raise ConfigError(f"--out {folder}: holds {len(strangers)} other images, such as {min(strangers)}")


def save_folder(images: Tensor, names: list[str], out: Path) -> None:
    """One PNG file for each image."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for image, name in zip(images, names, strict=True):
            to_pil_image(image).save(out / name)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error}") from error


def save_npz(images: Tensor, y: Tensor | None, out: Path) -> None:
    """Arrays `images`, uint8 (N, H, W, C), and `labels`, int64 (N,), if there are any."""
    arrays = {"images": images.permute(0, 2, 3, 1).numpy(), **({} if y is None else {"labels": y.numpy()})}
    write_atomically(out, lambda file: np.savez(file, **arrays))


def default_out(run: str, generator: Generator, options: SampleOptions) -> Path:
    """In the samples/ of the run, or in the working directory for a file on its own."""
    kind = f"interpolate-{options.interpolate}" if options.interpolate else "nearest" if options.nearest else "grid"
    name = f"{kind}-step-{generator.origin.step:08d}-seed-{options.seed}.png"
    directory = run_directory(run)
    return directory / "samples" / name if directory else Path(name)


def progress(items, title: str) -> tqdm:
    """A progress bar, on a terminal, for what takes longer than a second."""
    return tqdm(items, desc=title, delay=1, disable=None, leave=False)
