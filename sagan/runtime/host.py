"""Copies in the host's memory that a GPU makes while the host continues."""

import copy
from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """A host snapshot of tensors, alone or within dicts and lists, taken after the work queued so far.

    A GPU copies into pinned memory when it gets there, so the host may queue work that changes the originals. On a CPU
    the copy is made at once.
    """

    def __init__(self, content: Any, device: torch.device):
        on_gpu = device.type == "cuda"
        self._content = _copied(content, pin=on_gpu)
        self._device = device
        self._made = torch.cuda.Event() if on_gpu else None
        if self._made is not None:
            self._made.record(torch.cuda.current_stream(device))

    def wait(self) -> Any:
        """Return the copy as soon as it is made, whatever else is queued. Any thread may call this."""
        if self._made is not None:
            with torch.cuda.device(self._device):  # another thread may have another current device
                self._made.synchronize()
        return self._content


def _copied(content: Any, pin: bool) -> Any:
    if isinstance(content, Tensor):
        host = torch.empty_like(content, device="cpu", pin_memory=pin)  # with the same strides
        return host.copy_(content.detach(), non_blocking=True)
    if isinstance(content, dict):
        copied = copy.copy(content)  # a state dict has versions of its modules as an attribute
        copied.update({key: _copied(value, pin) for key, value in content.items()})
        return copied
    return [_copied(value, pin) for value in content] if isinstance(content, list) else content
