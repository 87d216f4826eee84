"""How the processes of one attempt find each other, whatever earlier attempts have left behind.

torchrun keeps a single store across all restarts, so the workers of a restart find the addresses of dead processes in
it. gloo connects to them, and the restart fails or hangs. torchrun sets this up before any worker runs, and the count
of restarts does not tell attempts apart, since a node that joins late begins at 0. So rank 0 opens a new store for its
attempt and publishes its address in torchrun's store. The others try the address that they find there until one
answers. The address of an earlier attempt never does, because torchrun ends every worker before it starts the next
attempt.
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
        with suppress(OSError, DistError):  # the address is of an attempt that has ended
            socket.create_connection((address, int(port)), timeout=5).close()  # TCPStore itself would wait longer
            return TCPStore(address, int(port), is_master=False, timeout=timeout), rank, world_size
        time.sleep(0.1)
    minutes = counted(round(timeout.total_seconds() / 60), "minute")
    raise UserError(
        f"rank {rank} of {world_size}: rank 0 has not answered for {minutes}, last tried at {address}:{port}"
    )


def own_address() -> str:
    """Return the address at which the machine of torchrun's store can reach this one."""
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection(master, timeout=60) as connection:
        return connection.getsockname()[0]


def name_interface(address: str) -> None:
    """Make gloo and NCCL use the network interface that other machines reach, unless the user has chosen one.

    By default gloo takes the interface of the host name, which is the loopback interface on many machines.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if name != "lo" and any(a.address == address for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
