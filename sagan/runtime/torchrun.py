"""What torchrun loads as it starts, by an entry point in pyproject.toml, before any process of a run exists.

By default each machine's torchrun keeps the address of the store that the processes of its first attempt share. A
machine that joins later waits for that address, which the others have no reason to announce again, and torchrun fails.
A variable turns this off, but torchrun reads it in its own process, where nothing else of sagan ever runs.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters


def rendezvous() -> "Callable[[RendezvousParameters], RendezvousHandler]":
    """Turn the sharing off if torchrun starts sagan, and return what creates a rendezvous, as torchrun expects.

    Other programs under torchrun keep its defaults, unless they are asked to use `--rdzv_backend sagan`.
    """
    if any(Path(word).name == "sagan" for word in sys.argv):
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    return c10d


def c10d(parameters: "RendezvousParameters") -> "RendezvousHandler":
    """Return a handler of the c10d backend."""
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

    backend, store = create_backend(parameters)
    return create_handler(store, backend, parameters)
