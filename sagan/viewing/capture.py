"""The maps that there are to see: those of G on generated images, and those of D on generated and on real ones."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from sagan.attention import AttentionMap, attention_layers, capture_maps
from sagan.data import Dataset
from sagan.data.batches import to_float
from sagan.layers import evaluating
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.draws import latents
from sagan.runtime.pictures import to_uint8


@dataclass(frozen=True)
class LayerView:
    """What one attention layer did with a few images. All tensors lie on the CPU."""

    network: Literal["generator", "discriminator"]
    layer: str
    """Name of the module in its network, such as blocks.1.attention."""
    source: Literal["generated", "real"]
    """Which images: those of the generator, or of the data."""
    images: Tensor
    """uint8 (N, C, H, W): what G made of z and y, or what D saw."""
    labels: Tensor | None
    """int64 (N,), None without classes."""
    maps: list[AttentionMap]
    """Weights in float32. None for a kind without maps (`residual`), several for some (`cbam`, `pyramid-oc`)."""
    gamma: float | None
    """The gain of the layer, None where it has none (gate `none`): the attention counts in full then."""

    def first(self, number: int) -> "LayerView":
        """The view of the first images alone."""
        maps = [replace(m, weights=m.weights[:number]) for m in self.maps]
        labels = None if self.labels is None else self.labels[:number]
        return replace(self, images=self.images[:number], labels=labels, maps=maps)


@torch.no_grad()
def view_attention(
    generator: Generator,
    discriminator: Discriminator | None,
    z: Tensor,
    y: Tensor | None,
    real: Tensor | None = None,
    real_y: Tensor | None = None,
) -> list[LayerView]:
    """The maps of every attention layer: of G for z (N, z_dim) and y (N,), of D (if given) on those images, and on
    real images (M, C, H, W) in [-1, 1] with labels real_y (M,), if given.

    All tensors on the networks' device. Layers come in forward order, G before D, generated before real. Neither the
    networks nor their singular vectors change; both run in evaluation mode.
    """
    generated, maps = _forward(generator, z, y)
    views = _views(generator, "generator", "generated", to_uint8(generated), y, maps)
    if discriminator is None:
        return views
    for source, images, labels in (("generated", generated, y), ("real", real, real_y)):
        if images is not None:
            _, maps = _forward(discriminator, images, labels)
            views += _views(discriminator, "discriminator", source, to_uint8(images), labels, maps)
    return views


def _forward(network: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, dict[str, list[AttentionMap]]]:
    with evaluating(network), capture_maps(network) as maps:
        return network(x, y), maps


def _views(
    network: nn.Module,
    name: str,
    source: str,
    images: Tensor,
    y: Tensor | None,
    maps: dict[str, list[AttentionMap]],
) -> list[LayerView]:
    labels = None if y is None else y.cpu()
    return [
        LayerView(
            network=name,
            layer=layer,
            source=source,
            images=images.cpu(),
            labels=labels,
            maps=[replace(m, weights=m.weights.float().cpu()) for m in maps[layer]],
            gamma=None if module.gamma is None else module.gamma.item(),
        )
        for layer, module in attention_layers(network).items()
    ]


def fixed_inputs(generator: Generator, number: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """The z (number, z_dim) and y (number,) to look at, on the generator's device: the same for every run with as many
    classes and as long a z, so that two runs show the same. Labels go round all classes in wide strides."""
    device = next(generator.parameters()).device
    z = latents(seed, "attention", 0, number, generator.z_dim).to(device)
    if generator.num_classes == 0:
        return z, None
    return z, fixed_labels(generator.num_classes, number).to(device)


def fixed_labels(num_classes: int, number: int) -> Tensor:
    """`number` labels, spread evenly over the classes."""
    return torch.arange(number) * num_classes // number if number < num_classes else torch.arange(number) % num_classes


def fixed_real(data: Dataset, number: int, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Real images (m, C, H, W) in [-1, 1] with labels (m,), on the CPU: m = min(number, images), the first of each of
    the `wanted` classes (number,), then the second, and so on; a class without images gives its place to the others.
    By default the classes are `fixed_labels`."""
    wanted = fixed_labels(max(len(data.class_names), 1), number) if wanted is None else wanted
    labels, chosen = data.labels.cpu(), []
    for c in wanted.tolist():
        chosen += [i for i in torch.nonzero(labels == c).flatten()[:number].tolist() if i not in chosen][:1]
    chosen += [i for i in range(min(len(data), number)) if i not in chosen]
    index = torch.tensor(chosen[:number])
    return to_float(data.batch(index).cpu()), labels[index]
