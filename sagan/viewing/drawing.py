"""The parts of a picture: colour scales, tiles, outlines, query points, text, and their arrangement."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sagan.runtime.pictures import to_pil

# Distinguishable with any colour vision (Okabe and Ito 2008), without black and blue, which dark maps would hide.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
# Lightness grows throughout. `plugin/static/draw.js` has the same colours.
HEAT = ((8, 6, 24), (40, 16, 84), (88, 24, 112), (140, 41, 105), (190, 62, 82), (228, 98, 50), (248, 150, 28),
        (250, 204, 72), (252, 250, 196))  # fmt: skip
DIVERGING = ((60, 150, 255), (10, 40, 110), (0, 0, 0), (130, 30, 10), (255, 120, 70))  # below 0: blue; above: red
OPACITY = 0.62  # of a map over the image: its brightest colour is brighter than a white pixel under its darkest
GAP, TEXT = 6, 12  # pixels
TICK, APART = 3, 40  # pixels: mark at the number of a bar; least distance of two numbers


def font(size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


def scale_for(size: Sequence[int], tile: int) -> int:
    """Return how often to repeat each pixel of an image (H, W) so that its longer side reaches `tile` pixels."""
    return max(1, math.ceil(tile / max(size)))


def shrunk(images: Tensor, tile: int) -> Tensor:
    """Return uint8 images (N, C, H, W), downsampled by averaging if their longer side is at least 2 `tile` pixels."""
    cell = max(1, max(images.shape[2:]) // tile)
    return F.avg_pool2d(images.float(), cell).round().to(torch.uint8)


def rgb(image: Tensor, scale: int) -> Tensor:
    """Return a uint8 image (C, H, W) with 1 or 3 channels as RGB, enlarged: (3, H', W')."""
    return image.expand(3, -1, -1).repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def enlarge(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge (h, w) to (H, W): each pixel takes the value of its cell."""
    return F.interpolate(grid[None, None].float(), list(size), mode="nearest")[0, 0]


def colours(t: Tensor, stops: tuple = HEAT) -> Tensor:
    """Return values in [0, 1] (H, W) as colours (3, H, W) in 0..255, linear between the stops."""
    table = torch.tensor(stops, dtype=torch.float32)
    position = t.clamp(0, 1) * (len(stops) - 1)
    low = position.floor().long().clamp(max=len(stops) - 2)
    return torch.lerp(table[low], table[low + 1], (position - low)[..., None]).permute(2, 0, 1)


def overlay(image: Tensor, t: Tensor, stops: tuple = HEAT, lit: Tensor | None = None) -> Tensor:
    """Draw values in [0, 1] (h, w) as colours over a greyed RGB image (3, H, W); cells not `lit` (h, w) are dark."""
    size = image.shape[1:]
    grey = image.float().mean(0, keepdim=True).expand(3, -1, -1)
    mixed = torch.lerp(grey, colours(enlarge(t, size), stops), OPACITY)
    if lit is not None:
        mixed = torch.where(enlarge(lit, size) > 0, mixed, grey * (1 - OPACITY) / 2)
    return mixed.round().to(torch.uint8)


def outlined(image: Tensor, region: Tensor) -> Tensor:
    """Draw a white line inside the edge of a region, bool (h, w), of an image (3, H, W), and a black one outside it."""
    size = image.shape[1:]
    mask = enlarge(region, size)  # 1 inside
    cell = min(pixels / cells for pixels, cells in zip(size, region.shape, strict=True))
    thick = max(1, round(min(max(size) / 100, cell / 8)))  # leaves most of the smallest region open
    outside = F.pad(1 - mask, (thick,) * 4, value=1)  # beyond the image counts as outside
    edge = (F.max_pool2d(outside[None], 2 * thick + 1, 1)[0] > 0) & (mask > 0)
    around = (F.max_pool2d(mask[None], 3, 1, padding=1)[0] > 0) & (mask == 0)
    image = torch.where(around, torch.zeros_like(image), image)
    return torch.where(edge, torch.full_like(image, 255), image)


def mark(image: Image.Image, y: float, x: float, colour: tuple, number: int | None = None) -> None:
    """Draw a query point at (y, x): a disc ringed in white and black, so that it shows on any background.

    With a number it is larger, and shows the number if there is room.
    """
    numbered = number is not None
    draw, radius = ImageDraw.Draw(image), max(3, round(max(image.size) / (24 if numbered else 48)))
    for grow, fill in ((2, "black"), (1, "white"), (0, colour)):
        draw.circle((x, y), radius + grow, fill=fill)
    if numbered and radius >= 6:
        draw.text((x, y), str(number), "black", font(round(1.5 * radius)), anchor="mm")


def framed(image: Image.Image, colour: tuple | str, grid: Sequence[int] | None = None) -> Image.Image:
    """Return the picture in a frame of a colour, with a tick at every line between the cells of a grid (h, w)."""
    width = max(2, round(max(image.size) / 64))
    whole = Image.new("RGB", (image.width + 2 * width, image.height + 2 * width), colour)
    draw, (right, below) = ImageDraw.Draw(whole), (image.width + width, image.height + width)
    rows, columns = grid or (1, 1)
    for i in range(1, columns):
        x = width + round(i * image.width / columns)
        draw.line((x, 0, x, whole.height), fill="black")
    for i in range(1, rows):
        y = width + round(i * image.height / rows)
        draw.line((0, y, whole.width, y), fill="black")
    draw.rectangle((width, width, right - 1, below - 1), fill=colour)
    whole.paste(image, (width, width))
    return whole


def captioned(image: Image.Image, text: str) -> Image.Image:
    """Return the picture with text below it, in as many lines as it takes."""
    words = text_lines([text], image.width)
    whole = Image.new("RGB", (image.width, image.height + words.height), "white")
    whole.paste(image, (0, 0))
    whole.paste(words, (0, image.height))
    return whole


def in_a_row(images: Iterable[Image.Image]) -> Image.Image:
    """Return pictures side by side."""
    images = list(images)
    width = sum(i.width for i in images) + GAP * (len(images) - 1)
    whole, x = Image.new("RGB", (width, max(i.height for i in images)), "white"), 0
    for image in images:
        whole.paste(image, (x, 0))
        x += image.width + GAP
    return whole


def in_a_column(images: Iterable[Image.Image]) -> Image.Image:
    """Return pictures below each other."""
    images = list(images)
    height = sum(i.height for i in images) + GAP * (len(images) - 1)
    whole, y = Image.new("RGB", (max(i.width for i in images), height), "white"), 0
    for image in images:
        whole.paste(image, (0, y))
        y += image.height + GAP
    return whole


def in_columns(strips: list[Image.Image], width: int) -> Image.Image:
    """Return strips of equal size in as many columns as fit into `width` pixels, read column by column."""
    columns = max(1, min(len(strips), (width + 4 * GAP) // (strips[0].width + 4 * GAP)))
    rows = -(-len(strips) // columns)
    blank = Image.new("RGB", (3 * GAP, 1), "white")
    parts = [in_a_column(strips[i : i + rows]) for i in range(0, len(strips), rows)]
    return in_a_row([piece for part in parts for piece in (part, blank)][:-1])


def legend(low: str, stops: tuple, high: str) -> Image.Image:
    """Return a colour scale between labels for its two ends."""
    ramp = Image.new("RGB", (120, TEXT + 2), "white")
    ramp.paste(to_pil(colours(torch.linspace(0, 1, 120).expand(TEXT, -1), stops).round().to(torch.uint8)), (0, 2))
    words = [text_lines([text], math.ceil(font().getlength(text)) + 4) for text in (low, high)]
    return in_a_row([words[0], ramp, words[1]])


def text_lines(lines: list[str], width: int) -> Image.Image:
    """Return text in black on white, broken into lines of at most `width` pixels."""
    broken: list[str] = []
    for line in lines:
        broken.append("")
        for word in line.split():
            longer = f"{broken[-1]} {word}".strip()
            if font().getlength(longer) <= width - 2 or not broken[-1]:
                broken[-1] = longer
            else:
                broken.append(word)
    whole = Image.new("RGB", (width, len(broken) * (TEXT + 4)), "white")
    draw = ImageDraw.Draw(whole)
    for i, line in enumerate(broken):
        draw.text((1, i * (TEXT + 4) + 1), line, "black", font())
    return whole


def bars(values: Tensor, width: int, height: int, colour: tuple, axis: tuple[float, float]) -> Image.Image:
    """Return a bar chart of values (n,) on an axis between two values, around 0; negative values go down from 0.

    Each bar is a whole number of pixels wide, at least one, so more than `width` bars make a wider picture. Some have
    their number below them, counted from 0, unless the picture is low.
    """
    values, (low, high) = values.nan_to_num(), axis  # a picture must not end a run
    bar = max(1, width // len(values))
    labels = {value: f"{value:.3g}" for value in (low, 0.0, high)}
    widest = max(font(TEXT - 1).getlength(label) for label in labels.values())
    below = TEXT + TICK if height > 6 * TEXT else 0  # pixels for numbers: a low picture has no room for them
    margin, inner = max(30, math.ceil(widest) + 6), height - TEXT - below
    y = [TEXT // 2 + (high - v) / (high - low) * (inner - 1) for v in (*values.tolist(), low, 0.0, high)]
    whole = Image.new("RGB", (margin + bar * len(values), height), "white")
    draw = ImageDraw.Draw(whole)
    *tops, at_low, at_zero, at_high = (round(v) for v in y)
    for i, top in enumerate(tops):
        x = margin + i * bar
        draw.rectangle((x, min(top, at_zero), x + max(bar - 2, 0), max(top, at_zero)), fill=colour)
    for value, at in {low: at_low, 0.0: at_zero, high: at_high}.items():
        draw.line((margin - 3, at, whole.width, at), fill=(150, 150, 150))
        draw.text((margin - 5, at), labels[value], "black", font(TEXT - 1), anchor="rm")
    for i in numbered(len(values), bar) if below else ():
        x = margin + i * bar + max(bar - 2, 0) // 2
        draw.line((x, at_low + 1, x, at_low + TICK), fill=(150, 150, 150))
        half = font(TEXT - 1).getlength(str(i)) / 2
        draw.text((min(x, whole.width - half), height), str(i), "black", font(TEXT - 1), anchor="md")
    return whole


def numbered(count: int, bar: int) -> range:
    """Return which of so many bars, each of a width in pixels, have their number below them."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    return range(0, count, next(step for step in steps if step * bar >= APART))


def of_one_size(images: list[Image.Image]) -> list[Image.Image]:
    """Return the pictures padded with white to the size of the largest."""
    size = max(i.width for i in images), max(i.height for i in images)
    whole = [Image.new("RGB", size, "white") for _ in images]
    for canvas, image in zip(whole, images, strict=True):
        canvas.paste(image, (0, 0))
    return whole


def dithered(image: Image.Image) -> Image.Image:
    """Return the picture in a palette of 256 colours for GIF. Without dithering, the colour scale would show steps."""
    palette = image.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
