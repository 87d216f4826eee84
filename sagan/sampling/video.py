"""Videos: a loop through latent vectors and classes, written frame by frame as the frames are generated."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sagan.config import UserError
from sagan.models.generator import Generator
from sagan.runtime.draws import latents
from sagan.runtime.files import write_atomically
from sagan.runtime.memory import require_memory
from sagan.runtime.pictures import SIDE, to_uint8
from sagan.sampling.images import Draw, one_hot, slerp

RATE = 25  # frames per second; a frame lasts a whole number of hundredths of a second, which GIF requires
STOPS = 8  # latent vectors of a loop without classes
PIXEL = 4  # bytes of a pixel of a picture in Pillow
ENCODER = "mp4 needs the encoder of PyAV: pip install '.[video]'"


@torch.no_grad()
def loop_frames(generator: Generator, classes: Sequence[int], between: int, draw: Draw) -> Iterator[Tensor]:
    """Yield the uint8 frames (C, H, W) of a loop through each class in turn, or eight latent vectors without classes.

    Each stop has its own latent vector. There are `between` frames from one stop to the next, on the arc between their
    latent vectors and on the line between their classes. The last frame leads back to the first.
    """
    device, stops = next(generator.parameters()).device, len(classes) or STOPS
    z = latents(draw.seed, "sample", 0, max(stops, 2), generator.z_dim, draw.truncation).to(device)
    y = one_hot(generator, classes) if classes else None
    t = torch.arange(between, device=device)[:, None] / between  # (between, 1), from 0 to below 1
    for i in range(len(z)):
        following = (i + 1) % len(z)
        path = slerp(z[i], z[following], t)
        weights = None if y is None else torch.lerp(y[i % len(y)], y[following % len(y)], t)
        for start in range(0, between, draw.batch_size):
            part = slice(start, start + draw.batch_size)
            yield from to_uint8(generator(path[part], None if weights is None else weights[part])).cpu()


def number_of_frames(classes: Sequence[int], between: int) -> int:
    """Return the number of frames that `loop_frames` yields."""
    return between * max(len(classes) or STOPS, 2)


def save_video(frames: Iterator[Tensor], path: Path) -> None:
    """Write frames (C, H, W) as .mp4, .webp or .gif, enlarged like pictures. It loops if the format supports that.

    mp4 is encoded and written as the frames come; for the others, Pillow keeps all frames until the last. Raise
    UserError if the file cannot be written.
    """
    pictures = map(_enlarged, frames)
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_images
    write_atomically(path, lambda file: write(pictures, file, path))


def require_encoder(path: Path) -> None:
    """Raise UserError if the encoder that a file needs is not installed."""
    if path.suffix.lower() == ".mp4":
        _av(path)


def require_room(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Raise ConfigError if the frames of a video do not fit in memory, unless they are written as they come.

    `size` is that of the generated images, (H, W).
    """
    if path.suffix.lower() == ".mp4":
        return
    height, width = (side * _scale(size) for side in size)
    what = f"--video {path}: {frames:,} frames of {height}x{width}, which only mp4 writes one by one"
    require_memory(frames * height * width * PIXEL, torch.device("cpu"), what)


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise UserError(f"--video {path}: {ENCODER}") from error
    return av


def _enlarged(frame: Tensor) -> Image.Image:
    """Return a frame as RGB, enlarged by repeating its pixels. Both sides are even, which most players require."""
    scale = _scale(frame.shape[1:])
    image = frame.expand(3, -1, -1).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def _scale(size: Sequence[int]) -> int:
    return 2 * max(1, round(SIDE / max(size) / 2))


def _write_mp4(pictures: Iterator[Image.Image], file: Any, path: Path) -> None:
    av = _av(path)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "16"})
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = picture.size
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def _write_images(pictures: Iterator[Image.Image], file: Any, path: Path) -> None:
    form = path.suffix[1:].lower()
    options = {"quality": 90} if form == "webp" else {}
    first = next(pictures)
    first.save(file, form, save_all=True, append_images=pictures, duration=1000 // RATE, loop=0, **options)
