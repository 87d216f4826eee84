"""How the processes of one attempt find each other, whatever earlier attempts have left behind.

torchrun may keep a single store across all restarts: `torchrun.py` turns that off for the commands of sagan, but not
for your own programs that call it. The workers of a restart then find the addresses of dead processes in it. gloo
connects to them, and the restart fails or hangs. torchrun sets this up before any worker runs, and the count of
restarts does not tell attempts apart, since a node that joins late begins at 0. So rank 0 opens a new store for its
attempt and publishes its address in torchrun's store. The others try the address that they find there until one
answers. The address of an earlier attempt never does, because torchrun ends every worker before it starts the next
attempt.
"""

import ipaddress
import os
import socket
import time
from contextlib import suppress
from datetime import timedelta

import psutil
from torch.distributed import DistError, Store, TCPStore

from sagan.config import UserError
from sagan.runtime.waiting import SECONDS, wait_until

STORE = "sagan/store of rank 0"
MACHINE = "sagan/machine of rank 0, as others reach it"
ARRIVED = "sagan/arrived"
FAILED = "sagan/failed"
GRACE = timedelta(seconds=10)  # an operation that fails in one process fails in the others within a moment


def attempt_store(patience: timedelta) -> tuple[Store, int, int]:
    """Return a store that no earlier attempt has used, the rank of this process and the number of processes.

    By then all processes have arrived. Raise UserError, naming those that have not, after `patience`.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    who = f"rank {rank} of {world_size}"
    shared = torchruns_store(rank, who, patience)
    host = own_address(shared, who, patience)
    name_interface(host)
    if rank == 0:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=patience)
        shared.set(STORE, f"{host} {store.port}")
    else:
        store = store_of_rank_0(shared, who, patience)
    await_everyone(store, ARRIVED, rank, world_size, who, patience)  # gloo would wait in silence, and name no rank
    return store, rank, world_size


def torchruns_store(rank: int, who: str, patience: timedelta) -> Store:
    """Return the store at $MASTER_ADDR and $MASTER_PORT, which rank 0 opens if torchrun has not."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    opens = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not opens:
        wait_until(lambda: answers(address, port), who, lambda: f"rank 0, tried at {address}:{port}", patience)
    try:
        return TCPStore(address, port, is_master=opens, wait_for_workers=False, multi_tenant=True, timeout=patience)
    except DistError as error:
        raise UserError(f"{who}: no store at {address}:{port}: {str(error).splitlines()[0]}") from error


def answers(address: str, port: int) -> bool:
    """Return whether anything listens there. TCPStore itself would wait for it in silence."""
    with suppress(OSError):
        socket.create_connection((address, port), timeout=5).close()
        return True
    return False


def own_address(shared: Store, who: str, patience: timedelta) -> str:
    """Return the address at which the other machines can reach this one.

    A host name may resolve to a loopback address only, as on Debian. If that is the machine of
    torchrun's store, the others say at which address they have reached it.
    """
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection(master, timeout=60) as connection:
        own, theirs = connection.getsockname()[0], connection.getpeername()[0]
    if int(os.environ.get("GROUP_RANK", "0")) > 0:
        shared.set(MACHINE, theirs)
    elif int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and ipaddress.ip_address(own).is_loopback:
        wait_until(lambda: shared.check([MACHINE]), who, lambda: "a process of another machine", patience)
        return shared.get(MACHINE).decode()
    return own


def name_interface(address: str) -> None:
    """Make gloo and NCCL use the network interface that other machines reach, unless the user has chosen one.

    By default gloo takes the interface of the host name, which is the loopback interface on many machines.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if name != "lo" and any(a.address == address for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def store_of_rank_0(shared: Store, who: str, patience: timedelta) -> Store:
    """Return the store of this attempt's rank 0, whose address it writes into torchrun's store."""
    found: list[Store] = []

    def answered() -> bool:
        if not shared.check([STORE]):
            return False
        address, port = shared.get(STORE).decode().split()
        if answers(address, int(port)):  # else it is of an attempt that has ended
            with suppress(DistError):
                found.append(TCPStore(address, int(port), is_master=False, timeout=patience))
        return bool(found)

    def whom() -> str:
        return f"rank 0, last tried at {shared.get(STORE).decode()}" if shared.check([STORE]) else "rank 0"

    wait_until(answered, who, whom, patience)
    return found[0]


def await_everyone(
    store: Store, place: str, rank: int, world_size: int, who: str, patience: timedelta | None = None, what: str = ""
) -> None:
    """Wait until every process has called this for the same place, as in `wait_until`, and name those that have not.

    `what` says what they do until then.
    """
    store.set(f"{place}/{rank}", "")
    store.add(place, 1)

    def missing() -> str:
        ranks = absent(store, place, world_size)
        return in_words(ranks) + (f", {'which' if len(ranks) == 1 else 'each of which'} {what}" if what else "")

    wait_until(lambda: store.add(place, 0) >= world_size, who, missing, patience)


def absent(store: Store, place: str, world_size: int) -> list[int]:
    """Return the ranks that have not come to a place."""
    return [r for r in range(world_size) if not store.check([f"{place}/{r}"])]


def silent_ranks(store: Store, rank: int, world_size: int) -> list[int]:
    """Return the ranks that exited or hang, once an operation in which all take part has failed in this process.

    They are those that do not report the failure within `GRACE`. It is rank 0 if the store, which it holds, is silent.
    """
    silent = [0]

    def all_reported() -> bool:
        store.set(f"{FAILED}/{rank}", "")
        silent[:] = absent(store, FAILED, world_size)
        return not silent

    try:
        wait_until(all_reported, f"rank {rank}", lambda: "the others", GRACE)
    except UserError as error:
        if isinstance(error.__cause__, DistError) and 0 in silent:
            return [0]
    if rank == 0:
        time.sleep(3 * SECONDS)  # until the others, too, have seen who has reported: the store ends with this process
    return list(silent)


def in_words(ranks: list[int]) -> str:
    """Return ranks as text, the first eight of them by number."""
    more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks[:8]))}{more}"
