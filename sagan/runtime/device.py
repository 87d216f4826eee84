"""The compute device and its precision."""

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sagan.config import ConfigError
from sagan.runtime.wording import counted

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def started_processes() -> tuple[int, int]:
    """Return how many processes torchrun has started, in all and on this machine. They may have left their group."""
    if "RANK" not in os.environ:  # other programs set WORLD_SIZE, too
        return 1, 1
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return world, int(os.environ.get("LOCAL_WORLD_SIZE", world))


def choose_device(name: str) -> torch.device:
    """Return the device that a `device` option names; "auto" is this process's GPU if there is one, else the CPU.

    Raise ConfigError if the device is not available here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if device.index is not None and started_processes()[0] > 1:
            raise ConfigError(f"device {name}: torchrun gives each process a GPU of its own; expected cuda or auto")
        local = int(os.environ.get("LOCAL_RANK", "0")) if count != 1 else 0  # a job may show each process one GPU
        index = local if device.index is None else device.index
        if index >= count:
            raise ConfigError(
                f"device {name}: requested CUDA device {index}, but found {counted(count, 'GPU')}; "
                "use `device: cpu` to run without a GPU"
            )
        return torch.device("cuda", index)
    try:
        torch.zeros(1, device=device).tolist()  # the device meta has no memory to read from
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend raises its own
        raise ConfigError(f"device {name}: not usable with this build of torch: {str(error).splitlines()[0]}") from None
    return device


def device_name(device: torch.device) -> str:
    """Return the model name of a GPU, or of the CPU if the system reports it."""
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
    """Wait until a GPU has finished all queued work; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def native_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulation on a CPU is a hundred times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def faster_in_bf16(device: torch.device) -> bool:
    """Return whether training is faster in bfloat16 than in float32.

    An Intel CPU needs matrix tiles (AMX) for that. With AVX-512 BF16 alone, a Xeon ran this model's 3x3 convolutions
    1.5 to 1.8 times slower in bf16, forward and backward; AMD's processors are faster with the same instructions.
    """
    if device.type == "cpu" and "Intel" in device_name(device):
        return torch.cpu._is_amx_tile_supported()
    return native_bf16(device)


def activation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the activation dtype for a `training.precision` option; log a warning if bf16 is emulated."""
    if precision == "bf16" and not native_bf16(device):
        log.warning("training.precision bf16 is emulated on this %s and very slow; use float32", device.type)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and faster_in_bf16(device)) else torch.float32


def prepare(device: torch.device) -> None:
    """Set this process up to train on a device. Raise ConfigError if torch's default dtype is not float32."""
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise ConfigError(f"torch.get_default_dtype() {dtype}: networks are trained with the default torch.float32")
    keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs are captured on the current device
        torch.backends.cudnn.benchmark = True  # shapes stay the same, so trying the algorithms pays off


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Disable autocast, TF32 and bf16 inside the block, and restore the settings after it.

    Inside, torch's older setting `torch.backends.cudnn.allow_tf32` raises RuntimeError when it is read.
    """
    backends: Any = torch.backends  # its type stub has no settings of cuDNN and oneDNN
    settings = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next activations; do nothing with other C libraries.

    By default, the pages of every large tensor go back to the system and are zeroed again, which takes a tenth of a
    training step on a CPU.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(parameter, value)
