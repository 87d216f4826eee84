"""Reading ahead in worker processes, in order.

Processes, not threads: decoding a small image spends most of its time in Python.
"""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator

from torch.utils.data import DataLoader, Dataset

from sagan.config import UserError


def read_ahead(dataset, function: Callable, items: Iterable, workers: int, pin_memory: bool = False) -> Iterator:
    """Yield function(item) for each item, in order, computed a few items ahead by `workers` processes (0: in this one).

    `function` reads from `dataset`; its failures in the workers are counted here. Raise UserError as `function` does.
    """
    if workers == 0:
        yield from map(function, items)
        return
    loader = DataLoader(
        WorkerReader(dataset, function),
        sampler=items,
        batch_size=None,  # no collating: each item is complete
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
    """The work of a worker process: (result, failures of the data set so far, error message) for each item."""

    def __init__(self, dataset, function: Callable):
        self.dataset, self.function = dataset, function

    def __getitem__(self, item):
        try:
            return self.function(item), self.dataset.failures, None
        except UserError as error:  # as text: the loader would bury the message under a worker's traceback
            return None, self.dataset.failures, str(error)


def prepare_worker(worker: int) -> None:
    logging.disable()  # images left out are logged once, by the process that counts them
    # Ctrl-C reaches the whole process group, but the run still needs its workers to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
