"""Reading ahead in worker processes, in order.

Processes, not threads: most of the time of decoding a small image is spent in Python.
"""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator

from torch.utils.data import DataLoader, Dataset

from sagan.config import UserError


def read_ahead(dataset, function: Callable, items: Iterable, workers: int, pin_memory: bool = False) -> Iterator:
    """function(item) for each item, in order, computed a few items ahead by `workers` processes (0: here and now).

    `function` reads from `dataset`, whose failures in the workers are counted here. Raises UserError as it does.
    """
    if workers == 0:
        yield from map(function, items)
        return
    loader = DataLoader(
        WorkerReader(dataset, function),
        sampler=items,
        batch_size=None,  # the loader shall not collate: an item is whole
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
    )
    for result, failures, error in loader:
        dataset.note_failures(failures)
        if error is not None:
            raise UserError(error)
        yield result


class WorkerReader(Dataset):
    """What a worker process runs: (result, failures of the data set so far, error message) for an item."""

    def __init__(self, dataset, function: Callable):
        self.dataset, self.function = dataset, function

    def __getitem__(self, item):
        try:
            return self.function(item), self.dataset.failures, None
        except UserError as error:  # as text: the loader would bury the message under a worker's stack trace
            return None, self.dataset.failures, str(error)


def prepare_worker(worker: int) -> None:
    logging.disable()  # what is left out is logged once, by the process that counts it
    # Ctrl-C reaches the whole process group; the run wants to finish its step, for which it needs its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
