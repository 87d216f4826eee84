"""Free memory, checked before much of it is allocated."""

from contextlib import suppress
from pathlib import Path

import psutil
import torch

from sagan.config import ConfigError

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")  # where a container finds its own limit


def require_memory(needed: int, device: torch.device, what: str) -> None:
    """Raise ConfigError if a device has less than `needed` bytes free. `what` begins with the option at fault."""
    if needed > (free := free_memory(device)):
        raise ConfigError(f"{what}: needs at least {in_gib(needed)}, but {device.type} has {in_gib(free)} free")


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still allocate: GPU memory, or main memory within a container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # the word "max" means no limit
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    return max(free, 0)


def in_gib(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / GIB:,.1f} GiB" if size < 2**60 else "more than 2^60 bytes"
