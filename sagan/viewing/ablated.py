"""The effect of attention on the image: the same z and y with and without a layer of the generator."""

import torch
from PIL import Image
from torch import Tensor

from sagan.attention import without_layers
from sagan.layers import evaluating
from sagan.models.generator import Generator
from sagan.runtime.pictures import to_pil, to_uint8
from sagan.viewing import drawing

LEAST = 32  # of 255: least difference at the top of the colour scale


@torch.no_grad()
def images_without(generator: Generator, z: Tensor, y: Tensor | None, layer: str) -> Tensor:
    """Return G's images of z and y without an attention layer, or without "all": uint8 (N, C, H, W) on the CPU."""
    with evaluating(generator), without_layers(generator, layer, "--ablate_layer"):
        return to_uint8(generator(z, y)).cpu()


def difference(images: Tensor, others: Tensor) -> Tensor:
    """Return the absolute difference of uint8 images (N, C, H, W), averaged over channels: float32 (N, H, W)."""
    return (images.float() - others.float()).abs().mean(1)


def ablation_picture(
    images: Tensor, others: Tensor, names: list[str], layer: str, title: str, tile: int
) -> Image.Image:
    """Return a picture with a row per image: with the layer, without it, and where the two differ.

    `images` and `others` are uint8 (N, C, H, W); `names` says what each image shows.
    """
    scale, strips = drawing.scale_for(images.shape[2:], tile), []
    for image, other, apart, name in zip(images, others, difference(images, others), names, strict=True):
        shade = drawing.colours(apart / max(LEAST, apart.max().item())).round().to(torch.uint8)
        said = f"differ by {apart.mean():.1f} of 255, at most {apart.max():.0f}"
        panels = {f"{name}, as it is": image, f"without {layer}": other, said: shade}
        pictures = (
            drawing.captioned(drawing.framed(to_pil(drawing.rgb(panel, scale)), "white"), words)
            for words, panel in panels.items()
        )
        strips.append(drawing.in_a_row(pictures))
    legend = drawing.legend("0", drawing.HEAT, f"largest difference of the panel, or {LEAST} of 255 if more")
    body = drawing.in_a_column(strips)
    return drawing.in_a_column([drawing.text_lines([title], max(body.width, legend.width)), legend, body])
