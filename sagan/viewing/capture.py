"""Capture of the maps of G on generated images, and of D on generated and real images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sagan.attention import AttentionMap, attention_layers, capture_maps
from sagan.data import Dataset
from sagan.data.batches import to_float
from sagan.layers import evaluating
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import class_name
from sagan.runtime.draws import latents
from sagan.runtime.pictures import to_uint8
from sagan.viewing.ablated import images_without

Source = Literal["generated", "real", "own"]


@dataclass(frozen=True)
class LayerView:
    """The action of one attention layer on a few images. All tensors are on the CPU."""

    network: Literal["generator", "discriminator"]
    layer: str
    """Name of the module in its network, such as blocks.1.attention."""
    source: Source
    """Origin of the images: the generator, the data, or a folder given by the user."""
    images: Tensor
    """uint8 (N, C, H, W): images that G made or that D saw."""
    labels: Tensor | None
    """int64 (N,); None without classes."""
    maps: list[AttentionMap]
    """Weights in float32. Empty for a kind without maps (`residual`); some have several (`cbam`, `pyramid-oc`)."""
    gamma: float | None
    """Gain of the layer; None if it has none (gate `none`), so that the attention counts in full."""
    change: Tensor | None = None
    """float32 (N,): the norm of what the layer adds to its input, divided by the norm of that input. For kind `sagan`
    that is |gamma o| / |x|. None if it was not measured."""
    class_names: tuple[str, ...] = ()
    """Empty if they are not known."""
    without: Tensor | None = None
    """uint8 (N, C, H, W): G's images of the same z and y without this layer. None for D."""
    minus: "LayerView | None" = None
    """The view whose maps have been subtracted from these."""

    def first(self, number: int) -> "LayerView":
        """Return the view of the first images alone."""
        maps = [replace(m, weights=m.weights[:number]) for m in self.maps]
        labels = None if self.labels is None else self.labels[:number]
        change = None if self.change is None else self.change[:number]
        without = None if self.without is None else self.without[:number]
        return replace(self, images=self.images[:number], labels=labels, maps=maps, change=change, without=without)

    def class_of(self, image: int) -> str | None:
        """Return the name of an image's class, "class 3" if classes are unnamed, or None without classes."""
        if self.labels is None:
            return None
        return class_name(self.class_names, int(self.labels[image]))


@torch.no_grad()
def view_attention(
    generator: Generator,
    discriminator: Discriminator | None,
    z: Tensor,
    y: Tensor | None,
    real: Tensor | None = None,
    real_y: Tensor | None = None,
    class_names: Sequence[str] = (),
    source_of_real: Source = "real",
) -> list[LayerView]:
    """Return the maps of every attention layer.

    G gets z (N, z_dim) and y (N,). D, if given, gets the images that G made, and real images (M, C, H, W) in [-1, 1]
    with labels real_y (M,) if they are given. All tensors are on the networks' device. Layers come in forward order, G
    before D, generated before real. Both networks run in evaluation mode and are left unchanged.
    """
    generated, observed = _forward(generator, z, y)
    views = _views(generator, "generator", "generated", to_uint8(generated), y, observed, class_names)
    views = [replace(v, without=images_without(generator, z, y, v.layer)) for v in views]
    if discriminator is None:
        return views
    shown: tuple[tuple[Source, Tensor | None, Tensor | None], ...]
    shown = (("generated", generated, y), (source_of_real, real, real_y))
    for source, images, labels in shown:
        if images is not None:
            _, observed = _forward(discriminator, images, labels)
            views += _views(discriminator, "discriminator", source, to_uint8(images), labels, observed, class_names)
    return views


class _Observed(NamedTuple):
    """Observations of each layer, by name, during a forward pass."""

    maps: dict[str, list[AttentionMap]]
    change: dict[str, Tensor]


def _forward(network: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, _Observed]:
    with evaluating(network), capture_maps(network) as maps, _measuring_change(network) as change:
        return network(x, y), _Observed(maps, change)


@contextmanager
def _measuring_change(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect, by layer name, |y - x| / |x| of each image in the last forward pass inside the block."""
    change: dict[str, Tensor] = {}

    def measure(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = inputs[0].float().flatten(1), output.float().flatten(1)
        change[name] = (y - x).norm(dim=1) / x.norm(dim=1)

    layers = attention_layers(network)
    hooks = [layer.register_forward_hook(partial(measure, name)) for name, layer in layers.items()]
    try:
        yield change
    finally:
        for hook in hooks:
            hook.remove()


def _views(
    network: nn.Module,
    name: Literal["generator", "discriminator"],
    source: Source,
    images: Tensor,
    y: Tensor | None,
    observed: _Observed,
    class_names: Sequence[str],
) -> list[LayerView]:
    labels = None if y is None else y.cpu()
    return [
        LayerView(
            network=name,
            layer=layer,
            source=source,
            images=images.cpu(),
            labels=labels,
            maps=[replace(m, weights=m.weights.float().cpu()) for m in observed.maps[layer]],
            gamma=None if module.gamma is None else module.gamma.item(),
            change=observed.change[layer].cpu(),
            class_names=tuple(class_names),
        )
        for layer, module in attention_layers(network).items()
    ]


def fixed_inputs(generator: Generator, number: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Return the fixed z (number, z_dim) and y (number,) for attention maps, on the generator's device.

    They are the same for all runs with the same number of classes and `z_dim`, so that runs can be compared.
    """
    device = next(generator.parameters()).device
    z = latents(seed, "attention", 0, number, generator.z_dim).to(device)
    if generator.num_classes == 0:
        return z, None
    return z, fixed_labels(generator.num_classes, number).to(device)


def fixed_labels(num_classes: int, number: int) -> Tensor:
    """Return `number` labels spread evenly over the classes."""
    return torch.arange(number) * num_classes // number if number < num_classes else torch.arange(number) % num_classes


def fixed_real(data: Dataset, number: int, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return real images (m, C, H, W) in [-1, 1] with labels (m,), on the CPU; m = min(number, images).

    They are the first image of each of the `wanted` classes (number,), then the second, and so on. Other images replace
    missing ones. By default the classes are `fixed_labels`.
    """
    wanted = fixed_labels(max(len(data.class_names), 1), number) if wanted is None else wanted
    labels, chosen = data.labels.cpu(), []
    for c in wanted.tolist():
        chosen += [i for i in torch.nonzero(labels == c).flatten()[:number].tolist() if i not in chosen][:1]
    chosen += [i for i in range(min(len(data), number)) if i not in chosen]
    index = torch.tensor(chosen[:number])
    return to_float(data.batch(index).cpu()), labels[index]
