"""The subjects of attention pictures: a run's networks, generated and real images, and the maps of its layers."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sagan.attention import attention_layers
from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import Dataset, resolve_num_classes
from sagan.data.batches import to_float
from sagan.data.opening import open_source
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import origin_of
from sagan.runs.checkpoints import pinned
from sagan.runs.evaluation import require_same_images
from sagan.runs.networks import load_discriminator, load_generator, require_trusted_source
from sagan.runtime.memory import require_memory
from sagan.viewing.capture import LayerView, Source, fixed_inputs, fixed_real, view_attention

Network = Literal["generator", "discriminator"]


class Networks(NamedTuple):
    """The networks of a run."""

    generator: Generator
    discriminator: Discriminator | None
    """None if it is not wanted or does not exist."""
    note: str = ""
    """Why there is no discriminator, if the user should know."""

    def shown(self, network: Network | None) -> dict[str, Generator | Discriminator]:
        """Return the networks whose maps are wanted and available, by name."""
        both = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: n for name, n in both.items() if n is not None and network in (None, name)}


class RealData(NamedTuple):
    """Real images to show to a discriminator."""

    config: DataConfig
    required: bool = False
    """Whether missing images are an error."""
    download: bool = False
    """Whether missing data may be downloaded; false if only a file names them."""
    named_by: str | Path | None = None
    """The run whose file alone names the source, or None if the user has named it."""


class ShownInputs(NamedTuple):
    """The inputs of the networks, on their device."""

    z: Tensor
    y: Tensor | None
    real: Tensor | None = None
    real_y: Tensor | None = None
    note: str = ""
    """Why there are no real images, if the user should know."""
    source: Source = "real"
    """Origin of `real`; if it is "own", only these images are shown."""
    class_names: tuple[str, ...] = ()
    """Empty if neither the networks nor the data know them."""


def load_networks(
    network: Network | None,
    run: str | Path,
    *,
    checkpoint: str | None = None,
    ema: bool = True,
    device: torch.device | str = "cpu",
    required: bool = False,
) -> Networks:
    """Load the generator of a run, and its discriminator unless `network` is the generator, from the same checkpoint.

    An exported generator may have no discriminator beside it. Then raise UserError if the discriminator's maps are
    `required` or the only ones wanted.
    """
    run, checkpoint = pinned(run, checkpoint)  # both networks are of one step
    generator = load_generator(run, checkpoint=checkpoint, ema=ema, device=device)
    if network == "generator":
        return Networks(generator, None)
    try:
        return Networks(generator, load_discriminator(run, checkpoint=checkpoint, device=device))
    except UserError as error:
        if network or required or not str(run).endswith(".safetensors"):
            raise
        return Networks(generator, None, f"no maps of the discriminator: {error}")


def choose_inputs(networks: Networks, num: int, classes: list[int] | None, seed: int, data: RealData) -> ShownInputs:
    """Return latent vectors, labels (the `classes` in turn), and the same number of real images for a discriminator.

    Raise ConfigError or UserError if real images are required and not available.
    """
    generator = networks.generator
    inputs = 4 * num * (generator.z_dim + 2 * generator.image_channels * generator.size[0] * generator.size[1])
    require_memory(inputs, next(generator.parameters()).device, f"num {num} images")
    z, y = fixed_inputs(networks.generator, num, seed)
    names = tuple(origin_of(networks.generator).class_names or ())
    if classes:
        y = torch.tensor(classes, device=z.device)[torch.arange(num, device=z.device) % len(classes)]
    if networks.discriminator is None:
        return ShownInputs(z, y, class_names=names)
    try:
        dataset = open_data_like(networks.generator, data)
        real, real_y = fixed_real(dataset, num, None if y is None else y.cpu())
    except (ConfigError, UserError) as error:
        if data.required:
            raise
        return ShownInputs(z, y, note=f"no maps of real images: {error}", class_names=names)
    names = names or (tuple(dataset.class_names) if y is not None else ())
    return ShownInputs(z, y, real.to(z.device), None if y is None else real_y.to(z.device), class_names=names)


def open_data_like(generator: Generator, data: RealData) -> Dataset:
    """Open data with images and classes like the generator's. Raise ConfigError or UserError if they differ."""
    require_same_images(data.config, generator)
    if data.named_by is not None:
        require_trusted_source(data.config, data.named_by)
    dataset = open_source(data.config, "train", data.download)
    if generator.num_classes == 0:
        dataset.forget_labels()
    resolve_num_classes(data.config, dataset)
    resolve_num_classes(replace(data.config, num_classes=generator.num_classes), dataset)  # D knows only its labels
    return dataset


def view_layers(networks: Networks, inputs: ShownInputs, network: Network | None, layer: str | None) -> list[LayerView]:
    """Return the views of all attention layers, or only those of one network or one name."""
    views = view_attention(
        networks.generator,
        networks.discriminator,
        inputs.z,
        inputs.y,
        inputs.real,
        inputs.real_y,
        class_names=inputs.class_names,
        source_of_real=inputs.source,
    )
    if inputs.source == "own":
        views = [v for v in views if v.source == "own"]
    return [v for v in views if network in (None, v.network) and layer in (None, v.layer)]


def own_images(networks: Networks, folder: str, num: int, classes: list[int] | None, data: DataConfig) -> ShownInputs:
    """Return up to `num` images of a folder, spread evenly, cropped and resized as `data` says, for a discriminator.

    Their classes are `classes` in turn, or those of the folder if it has class folders with names that the networks
    know. Raise UserError or ConfigError if the folder cannot be read or the class of an image is unknown.
    """
    generator, path = networks.generator, Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"--images {folder}: there is no such folder")
    try:
        dataset = open_source(replace(data, source="folder", path=folder), "train")
    except (ConfigError, UserError) as error:
        raise UserError(f"--images {folder}: {str(error).removeprefix(f'data.path {folder}: ')}") from None
    z, y = fixed_inputs(generator, 1)
    chosen = torch.linspace(0, len(dataset) - 1, min(num, len(dataset))).round().long()
    real, known = to_float(dataset.batch(chosen).cpu()).to(z.device), tuple(origin_of(generator).class_names or ())
    if generator.num_classes == 0:
        return ShownInputs(z, y, real, None, source="own")
    if classes:
        labels = torch.tensor(classes)[torch.arange(len(chosen)) % len(classes)]
    elif dataset.class_names and set(dataset.class_names) <= set(known):
        labels = torch.tensor([known.index(dataset.class_names[c]) for c in dataset.labels[chosen].tolist()])
    else:
        names = f"{', '.join(known[:3])}{', ...' * (len(known) > 3)}" if known else "like the classes of the run"
        raise ConfigError(
            f"--images {folder}: the discriminator judges each image as one of a class; give --classes, or put the "
            f"images in folders named {names}"
        )
    return ShownInputs(z, y, real, labels.to(z.device), source="own", class_names=known)


def require_alike(networks: Networks, others: Networks, option: str) -> None:
    """Raise ConfigError unless both generators take the same z and y and generate images of the same size."""
    for what in ("z_dim", "num_classes", "size"):
        here, there = (getattr(n.generator, what) for n in (networks, others))
        if here != there:
            raise ConfigError(f"{option}: its {what} is {there}, that of the run is {here}; they must match")


def differences(views: list[LayerView], others: list[LayerView]) -> tuple[list[LayerView], list[str]]:
    """Return the maps of `views` minus those of `others`, and notes about views that cannot be subtracted.

    The discriminator's maps of generated images are left out, because the two runs generate different images.
    """
    found, notes = [], []
    known = {(v.network, v.layer, v.source): v for v in others}
    for view in views:
        if view.network == "discriminator" and view.source == "generated":
            continue
        other = known.get((view.network, view.layer, view.source))
        if other is None or [m.weights.shape for m in view.maps] != [m.weights.shape for m in other.maps]:
            notes.append(f"{view.network} {view.layer}: the other has no map of the same form")
            continue
        maps = [
            replace(m, weights=m.weights - o.weights, distribution=False)
            for m, o in zip(view.maps, other.maps, strict=True)
        ]
        found.append(replace(view, maps=maps, minus=other))
    return found, notes


def require_layer(networks: Networks, network: Network | None, layer: str) -> None:
    """Raise ConfigError if no network that is shown has an attention layer of that name."""
    layers = {name: list(attention_layers(n)) for name, n in networks.shown(network).items()}
    if not any(layer in found for found in layers.values()):
        known = "; ".join(f"{', '.join(found) or 'none'} in the {name}" for name, found in layers.items())
        raise ConfigError(f"--layer {layer}: there is no such attention layer; expected one of: {known}")


def missing_maps(networks: Networks, views: list[LayerView], network: Network | None) -> list[str]:
    """Return notes about layers without maps. Raise UserError if no layer has one."""
    notes = []
    for name in networks.shown(network):
        kind = getattr(origin_of(networks.generator).config.model, name).attention.kind
        layers = {v.layer: v.maps for v in views if v.network == name}
        if kind == "none":
            notes.append(f"the {name} has attention kind none: no maps")
        notes += [f"{name} {layer}: kind {kind} has no maps" for layer, maps in layers.items() if not maps]
    if not any(view.maps for view in views):
        raise UserError(f"there is nothing to draw: {'; '.join(notes)}")
    return notes
