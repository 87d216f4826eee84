"""Videos: a loop through latent vectors and classes, written frame by frame as the frames are generated."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from sagan.models.generator import Generator
from sagan.runtime.draws import latents
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import SIDE, to_uint8
from sagan.sampling.images import Draw, one_hot, slerp

if TYPE_CHECKING:
    from av import VideoFrame

RATE = 25  # frames per second; a frame lasts a whole number of hundredths of a second, which GIF requires
STOPS = 8  # latent vectors of a loop without classes


class Format(NamedTuple):
    """How a kind of file is written: names and options of FFmpeg."""

    codec: str
    codec_options: dict[str, str]
    pixels: str
    file_options: dict[str, str]


FORMATS = {
    ".mp4": Format("libx264", {"crf": "16"}, "yuv420p", {}),
    ".webp": Format("libwebp_anim", {"quality": "90"}, "yuv420p", {"loop": "0"}),
    ".gif": Format("gif", {}, "pal8", {"loop": "0"}),  # 0: for ever
}


@torch.no_grad()
def loop_frames(generator: Generator, classes: Sequence[int], between: int, draw: Draw) -> Iterator[Tensor]:
    """Yield the uint8 frames (C, H, W) of a loop through each class in turn, or eight latent vectors without classes.

    Each stop has its own latent vector. There are `between` frames from one stop to the next, on the arc between their
    latent vectors and on the line between their classes. The last frame leads back to the first.
    """
    device, stops = next(generator.parameters()).device, len(classes) or STOPS
    z = latents(draw.seed, "sample", 0, max(stops, 2), generator.z_dim, draw.truncation).to(device)
    y = one_hot(generator, classes) if classes else None
    for i in range(len(z)):
        following = (i + 1) % len(z)
        for start in range(0, between, draw.batch_size):
            stop = min(start + draw.batch_size, between)
            t = torch.arange(start, stop, device=device)[:, None] / between  # (frames, 1), from 0 to below 1
            path = slerp(z[i], z[following], t)
            weights = None if y is None else torch.lerp(y[i % len(y)], y[following % len(y)], t)
            yield from to_uint8(generator(path, weights)).cpu()


def number_of_frames(classes: Sequence[int], between: int) -> int:
    """Return the number of frames that `loop_frames` yields."""
    return between * max(len(classes) or STOPS, 2)


def save_video(frames: Iterator[Tensor], path: Path) -> None:
    """Write frames (C, H, W) as .mp4, .webp or .gif, enlarged like pictures. It loops if the format supports that.

    A frame is encoded before the next one is taken, so memory holds no more of a long video than of a short one, apart
    from the compressed frames of a .webp. Raise UserError if the file cannot be written.
    """
    import av  # its libraries take a while to load

    form = FORMATS[path.suffix.lower()]

    def write(file: Any) -> None:
        with av.open(file, "w", format=path.suffix[1:].lower(), options=form.file_options) as container:
            stream: Any = container.add_stream(form.codec, rate=RATE, options=form.codec_options)
            stream.pix_fmt = form.pixels
            convert = with_own_palette if form.pixels == "pal8" else iter
            for frame in convert(map(to_frame, frames, count())):
                if frame.pts == 0:  # nothing is open before the first
                    stream.width, stream.height = frame.width, frame.height
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    write_atomically(path, write)


def to_frame(image: Tensor, number: int) -> "VideoFrame":
    """Return an image as a frame in RGB, enlarged by repeating its pixels. Both sides are even, as players require."""
    from av import VideoFrame

    scale = 2 * max(1, round(SIDE / max(image.shape[1:]) / 2))
    pixels = image.expand(3, -1, -1).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    frame = VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, RATE)
    return frame


def with_own_palette(frames: "Iterator[VideoFrame]") -> "Iterator[VideoFrame]":
    """Yield each frame in the 256 colours that suit it best."""
    from av.filter import Graph

    graph = None
    for frame in frames:
        if graph is None:
            graph = Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            both, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
            mapped, sink = graph.add("paletteuse", "new=1:dither=none"), graph.add("buffersink")
            source.link_to(both)
            both.link_to(mapped, 0, 0)
            both.link_to(palette, 1, 0)
            palette.link_to(mapped, 0, 1)
            mapped.link_to(sink)
            graph.configure()
        graph.push(frame)
        yield cast("VideoFrame", graph.pull())
