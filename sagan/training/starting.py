"""The start of a run from the weights of another one: `training.init_from`."""

from torch import Tensor, nn

from sagan.config import ConfigError
from sagan.runs.saved_networks import load_weights
from sagan.runtime.distributed import run_on_main
from sagan.runtime.wording import counted
from sagan.training.state import TrainState

NamedTensors = dict[str, Tensor]


def start_from(state: TrainState, path: str) -> list[str]:
    """Load the layers of a run or file that match, and return lines that list the others.

    The moving average starts as a copy of G, and optimizers start afresh. Raise UserError if the file cannot be read,
    and ConfigError if none of its layers matches.
    """
    step, weights = run_on_main(lambda: load_weights(path))
    lines, total = [f"weights from {path}, step {step}:"], 0
    for name, network in (("generator", state.generator), ("discriminator", state.discriminator)):
        if name not in weights:
            lines.append(f"  {name}: not in the file, so it starts from random weights")
            continue
        taken, left = take_over(network, weights[name])
        total += taken
        lines.append(f"  {name}: {counted(taken, 'layer')} loaded, {len(left)} not{':' if left else ''}")
        lines += [f"    {layer}: {reason}" for layer, reason in left.items()]
    if total == 0:
        raise ConfigError(f"training.init_from {path}: no layer has the shapes of this configuration")
    if state.generator_ema is not None:
        state.generator_ema.load_state_dict(state.generator.state_dict())
    return lines


def take_over(network: nn.Module, weights: NamedTensors) -> tuple[int, dict[str, str]]:
    """Load the layers whose weights all match. Return their number, and for each other layer the reason.

    A layer is loaded whole or not at all: singular vectors belong to one weight, and a trained gamma would let
    untrained attention through.
    """
    own, given = by_layer(network.state_dict()), by_layer(weights)
    left = {layer: "not in this network" for layer in given if layer not in own}
    fits: NamedTensors = {}
    for layer, tensors in own.items():
        if reason := why_unfit(tensors, given.get(layer)):
            left[layer] = reason
        else:
            fits |= {f"{layer}.{name}": tensor for name, tensor in given[layer].items()}
    network.load_state_dict(fits, strict=False)
    return len(own.keys() - left.keys()), left


def by_layer(weights: NamedTensors) -> dict[str, NamedTensors]:
    """Return layer -> name in it -> weight. An attention layer with all its parts is one layer."""
    layers: dict[str, NamedTensors] = {}
    for name, tensor in weights.items():
        before, inside, _ = name.partition(".attention.")
        layer = f"{before}.attention" if inside else name.rpartition(".")[0]
        layers.setdefault(layer, {})[name.removeprefix(f"{layer}.")] = tensor
    return layers


def why_unfit(own: NamedTensors, given: NamedTensors | None) -> str:
    """Return why the given weights do not fit a layer, or an empty string if they do."""
    if given is None:
        return "not in the file"
    if own.keys() != given.keys():
        return f"has {', '.join(sorted(own))} here, {', '.join(sorted(given))} there"
    shapes = {name: (tuple(given[name].shape), tuple(tensor.shape)) for name, tensor in own.items()}
    other = (f"{name} is {there} there, {here} here" for name, (there, here) in shapes.items() if there != here)
    return next(other, "")
