"""Which device computes, and in which precision."""

import ctypes
import os
import warnings
from contextlib import suppress

import torch

from sagan.config import ConfigError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def choose_device(name: str) -> torch.device:
    """The device of a `device` option; "auto" is this process's GPU where there is one, else the CPU.

    Raises ConfigError where the device does not exist here.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = local_rank if device.index is None else device.index
        if index >= count:
            raise ConfigError(f"device {name}: this machine has {count} CUDA devices; `device: cpu` runs without")
        return torch.device("cuda", index)
    return device


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; a CPU without such instructions is a hundred times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def activation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of activations for a `training.precision` option; warns where bf16 is emulated."""
    native = native_bf16(device)
    if precision == "bf16" and not native:
        warnings.warn(f"training.precision bf16 is emulated on this {device.type} and very slow; use float32", stacklevel=2)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else torch.float32


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next activations; by default every large tensor's pages go back to the
    system and are zeroed again, a tenth of a training step on a CPU. Does nothing on other systems."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(parameter, value)
