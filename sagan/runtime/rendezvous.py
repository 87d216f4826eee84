"""How the processes of one attempt find each other, whatever earlier attempts have left behind.

torchrun keeps a single store over all its restarts, and workers of a restart read what is in it: addresses of processes
that are dead. gloo dials them, and the restart fails or hangs. torchrun decides this before any worker runs, and the
count of restarts does not tell attempts apart, since a node that joins late begins at 0. So rank 0 opens a new store
for its attempt and publishes its address in torchrun's; the others try what they find there until it answers. The
address of an earlier attempt never does, because torchrun ends every worker before it starts the next attempt.
"""

import os
import socket
import time
from contextlib import suppress
from datetime import timedelta

import psutil
from torch.distributed import DistError, Store, TCPStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]

from sagan.config import UserError
from sagan.runtime.wording import counted

KEY = "sagan/store of rank 0"


def attempt_store(timeout: timedelta) -> tuple[Store, int, int]:
    """Return a store that no earlier attempt has used, the rank of this process and the number of processes.

    Raise UserError if rank 0 cannot be reached.
    """
    shared, rank, world_size = next(iter(rendezvous("env://", timeout=timeout)))
    host = own_address()
    name_interface(host)
    if rank == 0:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout)
        shared.set(KEY, f"{host} {store.port}")
        return store, rank, world_size
    address, port, start = "", "", time.monotonic()
    while time.monotonic() - start < timeout.total_seconds():
        address, port = shared.get(KEY).decode().split()
        with suppress(OSError, DistError):  # of an attempt that has ended
            socket.create_connection((address, int(port)), timeout=5).close()  # TCPStore itself would wait longer
            return TCPStore(address, int(port), is_master=False, timeout=timeout), rank, world_size
        time.sleep(0.1)
    minutes = counted(round(timeout.total_seconds() / 60), "minute")
    raise UserError(
        f"rank {rank} of {world_size}: rank 0 has not answered for {minutes}, last sought at {address}:{port}"
    )


def own_address() -> str:
    """Return the address of this machine that the machine of torchrun's store can reach."""
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection(master, timeout=60) as connection:
        return connection.getsockname()[0]


def name_interface(address: str) -> None:
    """Tell gloo and NCCL which network interface the other machines reach, unless the user has.

    gloo by itself takes the interface of the host name, which is the loopback one on many machines.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if name != "lo" and any(a.address == address for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
