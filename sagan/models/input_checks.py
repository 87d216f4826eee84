"""Checks of the networks' inputs. Each error names the expected shape or range."""

import operator
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from sagan.models.sizes import Size
from sagan.runtime.wording import counted, printable


def check_latents(z: Tensor, z_dim: int) -> None:
    """Raise ValueError unless z is (N, z_dim)."""
    if z.ndim != 2 or z.shape[1] != z_dim:
        raise ValueError(f"z has shape {tuple(z.shape)}, expected (N, {z_dim})")


def check_images(images: Tensor, channels: int, size: Size) -> None:
    """Raise ValueError unless the images are float (N, channels, H, W)."""
    expected = (channels, *size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}, "
            f"expected float (N, {', '.join(map(str, expected))}) in [-1, 1]"
        )


def whole(value: object, name: str, least: int) -> int:
    """Return an integer, also one of numpy or torch. Raise ValueError, naming it, for any other value."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} {value!r}: expected an integer, {least} or more")
    return number


def check_labels(y: Tensor | None, num_classes: int, n: int, network: str) -> None:
    """Raise ValueError unless y fits a network with `num_classes` classes and a batch of n.

    y is int64 (N,) in 0..num_classes-1, or float (N, num_classes) for mixtures, or None for an unconditional network.
    The range is checked on a CPU only, and not in compiled code: on a GPU the check would wait for queued work.
    """
    if y is None or num_classes == 0:
        if (y is None) != (num_classes == 0):
            raise ValueError(f"y is {'missing' if y is None else 'given'}, but {network} has {_classes(num_classes)}")
        return
    if not (y.is_floating_point() or y.dtype in (torch.int32, torch.int64)):
        raise ValueError(f"y is {y.dtype}, expected int64 labels or float weights")
    expected = (n, num_classes) if y.is_floating_point() else (n,)
    if tuple(y.shape) != expected:
        raise ValueError(f"y has shape {tuple(y.shape)}, expected {expected}")
    if torch.compiler.is_compiling():  # a graph cannot read values
        return
    if y.device.type == "cpu" and not y.is_floating_point() and n and not _within(y, num_classes):
        raise ValueError(f"y has labels from {int(y.min())} to {int(y.max())}, expected 0 to {num_classes - 1}")


def class_numbers(
    classes: int | str | Sequence[int | str] | None, num_classes: int, names: Sequence[str] | None
) -> list[int]:
    """Return the numbers of classes given by number or by name; None means all of them.

    Arrays and tensors of integers count as lists. The list is empty for an unconditional network. Raise ValueError for
    a class that does not exist.
    """
    classes = classes.tolist() if isinstance(classes, (Tensor, np.ndarray, np.generic)) else classes
    if classes is None:
        return list(range(num_classes))
    if num_classes == 0:
        raise ValueError(f"classes {classes}: the generator is unconditional and has no classes")
    numbers = []
    for c in [classes] if isinstance(classes, str) or not isinstance(classes, Iterable) else classes:
        number = _number_of(c, names)
        if number is None or not 0 <= number < num_classes:
            known = f" ({some_of(names)})" if names else ""
            raise ValueError(f"classes {c}: the generator has {_classes(num_classes)}, 0 to {num_classes - 1}{known}")
        numbers.append(number)
    if not numbers:
        raise ValueError("classes []: expected at least one class")
    return numbers


def some_of(names: Sequence[str]) -> str:
    """Return the first names of classes, without characters that could control a terminal."""
    return printable(", ".join(names[:10]), keep="") + (", ..." if len(names) > 10 else "")


def _classes(n: int) -> str:
    return counted(n, "class", "classes")


def _number_of(c: object, names: Sequence[str] | None) -> int | None:
    """Return the number of a class, None if it is none. A name takes precedence over a number written as text."""
    if not isinstance(c, str):
        try:
            return None if isinstance(c, bool) else operator.index(c)  # type: ignore[arg-type]
        except TypeError:
            return None
    if names and c in names:
        return list(names).index(c)
    return int(c) if c.isdecimal() else None


def _within(y: Tensor, num_classes: int) -> bool:
    low, high = torch.aminmax(y)
    return 0 <= int(low) and int(high) < num_classes
