"""Pictures of a generator's images: grids, interpolations, nearest training images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from sagan.config import DataConfig
from sagan.data import Dataset
from sagan.models.generator import Generator
from sagan.models.image_sampler import image_sampler
from sagan.runtime.captions import Captions
from sagan.runtime.draws import latents
from sagan.runtime.memory import require_memory
from sagan.runtime.pictures import image_grid, to_uint8

ROWS, COLUMNS = 10, 10  # of a grid, by default
NEIGHBOURS = 5


class Draw(NamedTuple):
    """Which latent vectors to draw, and how many images to generate at a time."""

    seed: int = 0
    truncation: float = 0.0
    batch_size: int = 64


def generate(generator: Generator, num: int, classes: Sequence[int], draw: Draw) -> tuple[Tensor, Tensor | None]:
    """Return uint8 images (num, C, H, W) and labels (num,), with a progress bar.

    Image i has the i-th latent vector of the seed and the class at index i modulo len(classes). `classes` is empty for
    an unconditional generator.
    """
    require_room(generator, num)
    y = torch.tensor(classes)[torch.arange(num) % len(classes)] if classes else None
    sample, parts = image_sampler(generator, draw.seed, draw.truncation), []
    for index in progress(torch.arange(num).split(draw.batch_size), "generating"):
        start, stop = int(index[0]), int(index[-1]) + 1
        parts.append(sample(start, stop, None if y is None else y[start:stop]).cpu())
    return torch.cat(parts), y


def require_room(generator: Generator, num: int) -> None:
    """Raise ConfigError if the images do not fit into the free memory."""
    height, width = generator.size
    size = num * (generator.image_channels * height * width + torch.long.itemsize)
    require_memory(size, torch.device("cpu"), f"num {num} images of {height}x{width}")


def by_class(images: Tensor, rows: int) -> Tensor:
    """Return the grid of `generate`'s images with one class per row, or ten images per row without classes."""
    rows = min(rows, len(images))
    if rows == 0:
        return image_grid(images, COLUMNS)
    columns = -(-len(images) // rows)
    blank = torch.full((columns * rows - len(images), *images.shape[1:]), 255, dtype=torch.uint8)
    images = torch.cat([images, blank]).unflatten(0, (columns, rows)).transpose(0, 1).flatten(0, 1)
    return image_grid(images, columns)


def between_latents(generator: Generator, classes: Sequence[int], columns: int, draw: Draw) -> Tensor:
    """Return a grid whose rows go from one latent vector to another: one row per class, or ten without classes."""
    device, rows_asked = next(generator.parameters()).device, len(classes) or ROWS
    require_room(generator, rows_asked * columns)
    t = torch.linspace(0, 1, columns, device=device)[:, None]  # (columns, 1)
    z = latents(draw.seed, "sample", 0, 2 * rows_asked, generator.z_dim, draw.truncation).to(device)
    paths = [slerp(a, b, t) for a, b in zip(z[::2], z[1::2], strict=True)]
    y = one_hot(generator, classes)
    rows = [(path, y[i].expand(columns, -1) if classes else None) for i, path in enumerate(paths)]
    return grid_of_rows(generator, rows, draw.batch_size)


def between_classes(generator: Generator, classes: Sequence[int], columns: int, draw: Draw) -> Tensor:
    """Return a grid whose rows go from each of at least two classes to the next, all with the same latent vector."""
    device = next(generator.parameters()).device
    require_room(generator, (len(classes) - 1) * columns)
    t = torch.linspace(0, 1, columns, device=device)[:, None]  # (columns, 1)
    z = latents(draw.seed, "sample", 0, 1, generator.z_dim, draw.truncation).to(device)
    y = one_hot(generator, classes)
    rows = [(z.expand(columns, -1), torch.lerp(a, b, t)) for a, b in zip(y, y[1:], strict=False)]
    return grid_of_rows(generator, rows, draw.batch_size)


def one_hot(generator: Generator, classes: Sequence[int]) -> Tensor:
    """Return weights over the classes of a generator, (len(classes), num_classes), on its device."""
    return torch.eye(generator.num_classes, device=next(generator.parameters()).device)[list(classes)]


@torch.no_grad()
def grid_of_rows(generator: Generator, rows: Sequence[tuple[Tensor, Tensor | None]], batch_size: int) -> Tensor:
    """Return the grid of images for the latent vectors (columns, z_dim) and class weights of each row."""
    images, columns = [], len(rows[0][0])
    for z, y in progress(rows, "generating"):
        for i in range(0, columns, batch_size):
            part = slice(i, i + batch_size)
            images.append(to_uint8(generator(z[part], None if y is None else y[part])))
    return image_grid(torch.cat(images), columns)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the vectors (n, d) between a and b (d,) along the arc, at t (n, 1) from 0 to 1.

    Latent vectors lie near a sphere of radius sqrt(d), which a straight line would leave (White 2016).
    """
    angle = torch.acos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    if torch.sin(angle) < 1e-6:  # on one line, on which no arc is the shortest
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def beside_nearest(images: Tensor, data: Dataset, features: Callable[[Tensor], Tensor], batch_size: int) -> Tensor:
    """Return a grid with a row per image: the image, its nearest ones in a data set by pixels, and by features."""
    found = nearest(images, data, (lambda x: x.flatten(1).float(), features), batch_size)
    blocks = [image_grid(images, 1), *(image_grid(data.batch(f.flatten()), f.shape[1]) for f in found)]
    gap = torch.full((*blocks[0].shape[:2], images.shape[-1] // 4), 255, dtype=torch.uint8)
    return torch.cat([blocks[0], gap, blocks[1], gap, blocks[2]], dim=-1)


def captions_of_nearest(left: Sequence[str], width: int, found: int, extractor: str) -> Captions:
    """Return the captions of `beside_nearest`: `left` for the rows, and titles of the three columns.

    `width` is the width of an image, and `found` the number of neighbours of each.
    """
    gap, sample, block = width // 4, width + 4, found * (width + 2) + 2
    pixels, features = sample + gap, sample + gap + block + gap
    words = ((0, sample, "sample"), (pixels, pixels + block, "nearest by pixels"))
    return Captions(left, top=(*words, (features, features + block, f"nearest by {extractor} features")))


def data_like(config: DataConfig, source: str, path: str | None) -> DataConfig:
    """Return the options of another data set, with images of the same size and channels."""
    path = path or (config.path if source == config.source else None)
    return replace(config, source=source, path=path, num_classes=None)


def nearest(images: Tensor, data: Dataset, spaces: tuple[Callable, ...], batch_size: int) -> list[Tensor]:
    """Return, for each space, the indices (n, k) of the images of a data set nearest to `images` (n, C, H, W).

    A space is a function from uint8 images to vectors; the nearest image comes first.
    """
    queries = [space(images) for space in spaces]
    best = [(torch.empty(len(images), 0), torch.empty(len(images), 0, dtype=torch.long)) for _ in spaces]
    for index in progress(torch.arange(len(data)).split(batch_size), "training images"):
        batch = data.batch(index).cpu()
        for i, space in enumerate(spaces):
            # The default uses a matrix product, which is too inexact to tell a copy from a near copy.
            new = torch.cdist(queries[i], space(batch), compute_mode="donot_use_mm_for_euclid_dist")
            distances = torch.cat([best[i][0], new], 1)
            indices = torch.cat([best[i][1], index.expand(len(images), -1)], 1)
            kept = distances.topk(min(NEIGHBOURS, distances.shape[1]), largest=False)
            best[i] = kept.values, indices.gather(1, kept.indices)
    return [indices for _, indices in best]


def progress(items, title: str, total: int | None = None) -> tqdm:
    """Return the items with a progress bar, shown on a terminal after a second."""
    return tqdm(items, desc=title, total=total, delay=1, disable=None, leave=False)
