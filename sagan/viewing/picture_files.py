"""Files of attention pictures and pages: their names, their titles, and how they are written."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sagan.config import UserError
from sagan.models.generator import Generator
from sagan.models.origin import class_name, origin_of
from sagan.runtime.captions import drawable
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import to_uint8, write_new
from sagan.viewing.ablated import ablation_picture, difference, images_without
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import dithered, of_one_size
from sagan.viewing.overlays import TILE, layer_pictures
from sagan.viewing.page import Shown, page
from sagan.viewing.scales import Scale
from sagan.viewing.subjects import Networks, ShownInputs

Found = Iterable[tuple[Networks, list[LayerView]]]  # the networks of checkpoints, with their views

FRAME, LAST_FRAME = 700, 3000  # milliseconds
MOST_PIXELS = {"webp": 16_383, "gif": 65_535}  # on a side, by the formats


def file_stem(view: LayerView) -> str:
    """Return the part of file names that says what a view shows."""
    return f"{view.network}-{view.layer}-{view.source}"


def title(view: LayerView, generator: Generator) -> str:
    """Return the title of a view of a loaded generator."""
    origin = origin_of(generator)
    average = " (moving average)" if view.network == "generator" and origin.averaged else ""
    return f"step {origin.step}: {view.network}{average}, {view.layer}, on {view.source} images"


def write_page(name: str, found: Found, out: Path) -> Path:
    """Write the page about a run, given its name and the views of its checkpoints. Return the page's path."""
    shown = []
    for networks, views in found:
        origin = origin_of(networks.generator)
        kinds = {name: getattr(origin.config.model, name).attention.kind for name in ("generator", "discriminator")}
        shown.append(Shown(origin.step, views, kinds))
    content = page(name, shown)
    write_atomically(out, lambda file: file.write(content.encode()))
    return out


def write_pictures(
    found: Found,
    queries: dict[str, list],
    folder: Path,
    *,
    scale: Scale,
    share: float,
    minus: str = "",
    animate: str | None = None,
) -> Iterator[Path]:
    """Write a picture, or an animation, for each layer, kind of images and kind of map. Yield their paths.

    `queries` are the points of each view by its `file_stem`; `minus` names what was subtracted from the maps.
    """
    frames: dict[str, list] = {}
    suffix, step = f"-minus-{minus.replace(' ', '-')}" if minus else "", 0
    for networks, views in found:
        step = origin_of(networks.generator).step
        for view in views:
            stem = file_stem(view)
            heading = f"{title(view, networks.generator)}{minus and f', minus {minus}'}"
            drawn = layer_pictures(view, queries[stem], title=heading, scale=scale, share=share)
            for part, picture in drawn.items():
                frames.setdefault(f"{stem}-{part}{suffix}", []).append(picture)
    for stem, pictures in frames.items():
        if animate:
            yield save_animation(pictures, folder / stem, animate)
        else:
            yield save_picture(pictures[0], folder / stem, step)


@torch.no_grad()
def write_ablation(generator: Generator, inputs: ShownInputs, layer: str, folder: Path) -> Iterator[str]:
    """Write a picture of G's images with and without an attention layer, or "all". Yield lines about it."""
    images = to_uint8(generator(inputs.z, inputs.y)).cpu()
    others = images_without(generator, inputs.z, inputs.y, layer)
    names = [_shown(i, inputs.y, inputs.class_names) for i in range(len(images))]
    what = "any attention" if layer == "all" else layer
    step = origin_of(generator).step
    heading = f"step {step}: the same z and y, with and without {what}"
    picture = ablation_picture(images, others, names, what, heading, TILE)
    yield str(save_picture(picture, folder / f"generator-without-{layer}", step))
    apart = difference(images, others)
    yield f"without {what}, pixels differ by {apart.mean():.2f} of 255 on average, {apart.max():.0f} at most"


def _shown(i: int, y: Tensor | None, names: tuple[str, ...]) -> str:
    if y is None:
        return f"image {i}"
    return f"image {i}, {drawable(class_name(names, int(y[i]))) or f'class {y[i]}'}"


def save_picture(picture: Image.Image, stem: Path, step: int) -> Path:
    """Write STEM-step-N.png, or STEM-step-N-v2.png if that is another picture, and so on. Return its path."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return write_new(stem.with_name(f"{stem.name}-step-{step:08d}.png"), content.getvalue())


def save_animation(pictures: list[Image.Image], stem: Path, form: str) -> Path:
    """Write an animation, STEM.webp or STEM.gif, that pauses on its last picture, as `save_picture` does."""
    path, pictures = stem.with_name(f"{stem.name}.{form}"), of_one_size(pictures)
    if max(pictures[0].size) > MOST_PIXELS[form]:
        width, height = pictures[0].size
        raise UserError(
            f"{path}: {width}x{height} pixels, but a {form} has at most {MOST_PIXELS[form]:,} on a side; show fewer "
            "images"
        )
    if form == "gif":
        pictures = [dithered(p) for p in pictures]
    options = {"duration": [FRAME] * (len(pictures) - 1) + [LAST_FRAME], "loop": 0}
    options |= {"quality": 90} if form == "webp" else {}
    first, *others = pictures
    content = io.BytesIO()
    first.save(content, form, save_all=True, append_images=others, **options)
    return write_new(path, content.getvalue())
