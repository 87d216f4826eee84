"""What a checkpoint may hold, and its digest. Anyone may have written the file, so nothing in it is trusted.

Each check raises a ValueError whose message begins with the field, such as `generator_optimizer.state.3.exp_avg`.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sagan.config import OptimizerConfig
from sagan.config.types import shown
from sagan.runtime.wording import printable

# Limits far beyond what a checkpoint holds. A few bytes can encode deeply nested lists, each holding the next one ten
# times.
ENTRIES, DEPTH, LENGTH, BITS = 200_000, 20, 100_000, 128
NETWORKS = ("generator", "discriminator", "generator_ema")
DTYPES = ("float32", "bfloat16")
LARGEST_STEP = 10**12


def digest(content: Mapping[str, Any]) -> str:
    """Return a checksum of all names and values in a checkpoint. Raise ValueError for what a checkpoint cannot hold.

    It detects damage, such as flipped bits, but not an attacker, who would write a new digest. CRC-32 is several times
    as fast as a cryptographic hash, and a checkpoint at full width is a gigabyte.
    """
    total = 0
    for name, value in leaves(content):
        if isinstance(value, Tensor):
            total = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}\n".encode(), total)
            total = zlib.crc32(_bytes(value), total)
        else:
            total = zlib.crc32(f"{name} {value!r}\n".encode(errors="surrogatepass"), total)
    return f"crc32:{total:08x}"


def leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every length, tensor and plain value in a nested content, keys in order.

    Raise ValueError for anything else, for tensors that claim more numbers than they store, and for content that is too
    deep or has too many entries.
    """
    for count, leaf in enumerate(_leaves(content, "", 0)):
        if count == ENTRIES:
            raise ValueError(f"{leaf[0]}: expected at most {ENTRIES} entries before it")
        yield leaf


def _leaves(content: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(content, (Mapping, list, tuple)):
        if depth == DEPTH:
            raise ValueError(f"{name}: expected fewer than {DEPTH} levels")
        yield f"{name}.length", len(content)
        # Sorted by the name alone: formatting a tensor takes a hundred times as long as its digest.
        named = sorted(content.items(), key=lambda item: repr(item[0])) if isinstance(content, Mapping) else None
        items = enumerate(content) if named is None else named
        for key, item in items:
            if type(key) not in (str, int):
                raise ValueError(f"{name}: has a key of type {type(key).__name__}, expected text")
            yield from _leaves(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(content, Tensor):
        _require_whole(content, name)
        yield name, content
    elif content is None or isinstance(content, (bool, int, float, str)):
        _require_short(content, name)
        yield name, content
    else:
        raise ValueError(f"{name}: {type(content).__name__}, expected a tensor or a plain value")


def _require_whole(tensor: Tensor, name: str) -> None:
    """Raise ValueError unless a tensor is dense and the file holds every one of its numbers."""
    kind = "sparse" if tensor.layout != torch.strided else "quantized" if tensor.is_quantized else None
    if kind or tensor.is_nested or tensor.device.type == "meta":
        raise ValueError(f"{name}: a tensor that is {kind or 'nested or empty'}, expected a dense one")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError(f"{name}: claims the shape {tuple(tensor.shape)}, but holds fewer numbers")


def _require_short(value: Any, name: str) -> None:
    if isinstance(value, str) and len(value) > LENGTH:
        raise ValueError(f"{name}: {len(value)} characters, expected at most {LENGTH}")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise ValueError(f"{name}: an integer of {value.bit_length()} bits, expected at most {BITS}")


def _bytes(tensor: Tensor) -> Any:
    """Return the numbers of a tensor as a buffer, in memory order if the tensor is dense there."""
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_fields(content: Mapping[str, Any]) -> None:
    """Raise ValueError if a field of a checkpoint has a type or range that this program never writes."""
    check_step(content["step"])
    if (dtype := content.get("dtype")) is not None and dtype not in DTYPES:
        raise ValueError(f"dtype {_shown(dtype)}: expected one of {', '.join(DTYPES)}")
    if "data" in content:
        check_data(content["data"])
    for name in NETWORKS:
        if name not in content:
            continue
        for key, value in _mapping(content[name], name).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name}.{key} {_shown(value)}: expected a tensor")


def check_step(step: Any) -> int:
    """Return the step of a file. Raise ValueError unless it is an integer that training can reach."""
    if type(step) is not int or not 0 <= step <= LARGEST_STEP:
        raise ValueError(f"step {_shown(step)}: expected an integer from 0 to {LARGEST_STEP}")
    return step


def check_data(data: Any) -> None:
    """Raise ValueError unless `data` is what a checkpoint records about its data set."""
    data = _mapping(data, "data")
    for key in ("class_names", "images"):
        if key not in data:
            raise ValueError(f"data.{key} is missing")
    check_names(data["class_names"], "data.class_names")
    if type(data["images"]) is not int or data["images"] < 0:
        raise ValueError(f"data.images {_shown(data['images'])}: expected an integer, 0 or more")
    if not isinstance(data.get("identity", ""), str):
        raise ValueError(f"data.identity {_shown(data['identity'])}: expected text")


def check_names(names: Any, field: str, num_classes: int | None = None) -> None:
    """Raise ValueError unless `names` is a list of class names, either empty or with one for each class."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field}: expected a list of names")
    if num_classes is not None and len(names) not in (0, num_classes):
        raise ValueError(f"{field}: {len(names)} names, but data.num_classes is {num_classes}")


def check_weights(weights: Mapping[str, Any], network: nn.Module, prefix: str = "") -> None:
    """Raise ValueError unless weights have the names and shapes of a network's. `prefix` is put before the names."""
    expected = network.state_dict()
    for words, names in (
        ("Missing key", expected.keys() - weights.keys()),
        ("Unexpected key", weights.keys() - expected.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{words} {prefix}{_shown(min(names, key=str))}{more}")
    for name, own in expected.items():
        _check_tensor(weights[name], own, f"{prefix}{name}")


def check_adam(saved: Any, network: nn.Module, config: OptimizerConfig, name: str, step: int) -> None:
    """Raise ValueError unless `saved` is the state of an Adam with these settings for a network, after `step` steps.

    Its learning rate may be any: a callback may have changed it.
    """
    parameters, saved = list(network.parameters()), _mapping(saved, name)
    groups, state = saved.get("param_groups"), _mapping(saved.get("state"), f"{name}.state")
    if not isinstance(groups, (list, tuple)) or len(groups) != 1:
        raise ValueError(f"{name}.param_groups: expected a list of one group")
    settings = {
        "params": list(range(len(parameters))),
        "betas": [config.beta1, config.beta2],
        "eps": config.eps,
        "weight_decay": 0,
        "amsgrad": False,
        "maximize": False,
    }
    for key, value in _mapping(groups[0], f"{name}.param_groups.0").items():
        value = list(value) if isinstance(value, tuple) else value
        if key in settings and value != settings[key]:
            raise ValueError(f"{name}.param_groups.0.{key}: expected that of its configuration, {settings[key]}")
    lr = groups[0].get("lr")
    if type(lr) not in (int, float) or not 0 <= lr < math.inf:
        raise ValueError(f"{name}.param_groups.0.lr {_shown(lr)}: expected a number, 0 or more")
    if step and not state:
        raise ValueError(f"{name}.state: empty after {step} steps")
    for i, entry in state.items():
        if type(i) is not int or not 0 <= i < len(parameters):
            raise ValueError(f"{name}.state.{i}: expected the number of a parameter, 0 to {len(parameters) - 1}")
        _check_moments(_mapping(entry, f"{name}.state.{i}"), parameters[i], f"{name}.state.{i}")


def _check_moments(entry: Mapping[str, Any], parameter: Tensor, name: str) -> None:
    """Raise ValueError unless `entry` is what Adam keeps for a parameter."""
    if entry.keys() != {"step", "exp_avg", "exp_avg_sq"}:
        raise ValueError(f"{name}: expected step, exp_avg and exp_avg_sq")
    for key in ("exp_avg", "exp_avg_sq"):
        _check_tensor(entry[key], parameter, f"{name}.{key}")
    if not bool((entry["exp_avg_sq"] >= 0).all()):
        raise ValueError(f"{name}.exp_avg_sq: expected averages of squares, 0 or more")
    step = entry["step"]
    number = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    if type(number) not in (int, float) or not 0 <= number < math.inf:
        raise ValueError(f"{name}.step: expected a number of steps")


def _check_tensor(value: Any, own: Tensor, name: str) -> None:
    """Raise ValueError unless `value` is a tensor with the shape and the kind of numbers of `own`."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} {_shown(value)}: expected a tensor")
    if value.shape != own.shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}, expected {tuple(own.shape)}")
    if value.is_floating_point() != own.is_floating_point() or value.is_complex():
        raise ValueError(f"{name}: {value.dtype}, expected {own.dtype}")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: has numbers that are not finite")


def _mapping(value: Any, name: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} {_shown(value)}: expected a mapping")
    return value


def _shown(value: Any) -> str:
    """Return a value as an error shows it, or its type if it may be long."""
    short = value is None or isinstance(value, (bool, int, float, str))
    return printable(shown(value), keep="") if short else type(value).__name__
