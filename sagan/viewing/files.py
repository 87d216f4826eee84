"""Pictures of attention as files: their names, their titles, and how they are written."""

from pathlib import Path

from PIL import Image

from sagan.models.generator import Generator
from sagan.models.origin import origin_of
from sagan.runtime.files import write_atomically
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import dithered, of_one_size

FRAME, LAST_FRAME = 700, 3000  # milliseconds


def file_stem(view: LayerView) -> str:
    """Return what a view shows, as a part of file names."""
    return f"{view.network}-{view.layer}-{view.source}"


def title(view: LayerView, generator: Generator) -> str:
    """Return what a view of a loaded generator shows, in words."""
    origin = origin_of(generator)
    average = " (moving average)" if view.network == "generator" and origin.averaged else ""
    return f"step {origin.step}: {view.network}{average}, {view.layer}, on {view.source} images"


def save_picture(picture: Image.Image, stem: Path, step: int) -> Path:
    """Write STEM-step-N.png and return it."""
    path = stem.with_name(f"{stem.name}-step-{step:08d}.png")
    write_atomically(path, lambda file: picture.save(file, format="PNG"))
    return path


def save_animation(pictures: list[Image.Image], stem: Path, form: str) -> Path:
    """Write an animation, STEM.webp or STEM.gif, that rests on its last picture; return it."""
    path, pictures = stem.with_name(f"{stem.name}.{form}"), of_one_size(pictures)
    if form == "gif":
        pictures = [dithered(p) for p in pictures]
    options = {"duration": [FRAME] * (len(pictures) - 1) + [LAST_FRAME], "loop": 0}
    options |= {"quality": 90} if form == "webp" else {}
    first, *others = pictures
    write_atomically(path, lambda file: first.save(file, form, save_all=True, append_images=others, **options))
    return path
