"""Which device computes, and in which precision."""

import ctypes
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

from sagan.config import ConfigError

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def choose_device(name: str) -> torch.device:
    """The device of a `device` option; "auto" is this process's GPU where there is one, else the CPU.

    Raises ConfigError where the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        if index >= count:
            raise ConfigError(
                f"device {name}: number {index} is wanted, and this machine has {count} CUDA devices; "
                "`device: cpu` runs without"
            )
        return torch.device("cuda", index)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend has its own
        raise ConfigError(f"device {name}: this torch cannot use it: {str(error).splitlines()[0]}") from None
    return device


def device_name(device: torch.device) -> str:
    """The model of a GPU or, where the system tells, of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done all it was asked for; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; a CPU without such instructions is a hundred times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def activation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of activations for a `training.precision` option; warns, in the log, where bf16 is emulated."""
    native = native_bf16(device)
    if precision == "bf16" and not native:
        log.warning("training.precision bf16 is emulated on this %s and very slow; use float32", device.type)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else torch.float32


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next activations; by default every large tensor's pages go back to the
    system and are zeroed again, a tenth of a training step on a CPU. Does nothing on other systems."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(parameter, value)
