"""Reading ahead in worker processes, in order.

They are processes rather than threads, because decoding a small image spends most of its time in Python.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sagan.config import ConfigError, UserError
from sagan.config.errors import one_line

NO_SHARED_MEMORY = (
    "a worker process that reads images has no shared memory for them ({}); fewer data.workers need less of it, and a "
    "container gets more by --shm-size"
)


def read_ahead(dataset, function: Callable, items: Iterable, workers: int) -> Iterator:
    """Yield function(item) for each item, in order, computed a few items ahead by `workers` processes (0: this one).

    Each result is a tuple. `function` reads from `dataset`; its failures in workers are counted in this process. Raise
    UserError as `function` does, and if a worker is killed or shared memory is full. A process of a
    `multiprocessing.Pool` may have no workers of its own, and reads by itself.
    """
    if workers == 0 or multiprocessing.current_process().daemon:
        yield from map(function, items)
        return
    loader = DataLoader(
        WorkerReader(dataset, function),
        sampler=items,
        batch_size=None,  # no collating: each item is complete
        num_workers=workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # or else the loader would draw from the caller's random numbers
    )
    for result, failures, error in watched(loader):
        dataset.note_failures(failures)
        if error is not None:
            raise UserError(error)
        yield result


def watched(loader: DataLoader) -> Iterator:
    """Yield what a loader yields. If a worker is killed, raise UserError, but not before the next item is due.

    torch's own SIGCHLD handler raises wherever the main thread happens to be. In the middle of a training step, that
    would leave the state half updated.
    """
    others, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    in_main = threading.current_thread() is threading.main_thread()
    items = iter(loader)
    workers = set(multiprocessing.active_children()) - others
    if in_main:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield from items
    except Exception as error:
        ended = sorted(w.exitcode for w in workers if w.exitcode)
        if not ended:
            raise
        how = f"killed by {signal.Signals(-ended[0]).name}" if ended[0] < 0 else f"exit code {ended[0]}"
        raise UserError(
            f"a worker process that reads images ended early ({how}). If memory is short, fewer data.workers help"
        ) from error
    finally:
        if in_main and threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGCHLD, handler)


class WorkerReader(Dataset):
    """The work of a worker process: (result, failures of the data set so far, error message) for each item."""

    def __init__(self, dataset, function: Callable):
        self.dataset, self.function = dataset, function

    def __getitem__(self, item):
        # Errors are returned as text: the loader would bury the message under a worker's traceback.
        try:
            result = self.function(item)
        except (ConfigError, UserError) as error:
            return None, self.dataset.failures, str(error)
        try:
            # The loader's queue would do this too, but in a thread of its own: after an error there, the parent would
            # wait for ever.
            for tensor in result:
                if isinstance(tensor, Tensor):
                    tensor.share_memory_()
        except RuntimeError as error:
            return None, self.dataset.failures, NO_SHARED_MEMORY.format(one_line(error))
        return result, self.dataset.failures, None


def prepare_worker(worker: int) -> None:
    """Silence a new worker process, and leave it running until its parent ends it.

    `worker` is its number, which torch's loader passes.
    """
    logging.disable()  # images left out are logged once, by the process that counts them
    # Ctrl-C, `timeout` and job schedulers signal the whole process group, but the run needs its workers to finish the
    # step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also in all threads started later
        threading.Thread(target=obey_parent, daemon=True).start()


def obey_parent() -> None:
    """End this process on the first SIGTERM from its parent, and ignore those from others."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
