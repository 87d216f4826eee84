"""What a run writes about itself: metrics.jsonl (the record), log.txt (what the terminal said), TensorBoard (a log)."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from sagan.config import UserError
from sagan.runs.records import forget_after


class RunLog:
    """Writers of one run directory, to be used as a context manager. In processes other than the main one (`active`
    false) every method does nothing.

    While it is open, no other process can open one for the same directory: two that train there would write over each
    other's checkpoints. `say` serves at once; `begin` must come before `record`, `image` and `blobs`. Warnings that
    other parts of the program give to the logger `sagan`, such as an image that was left out, are said too. Methods
    raise UserError, naming the folder, where the disk is full or files cannot be written.
    """

    def __init__(self, run_dir: Path, active: bool = True):
        self.active, self.run_dir = active, run_dir
        self.text = self.metrics = self.board = None
        self.handler = _Handler(self)
        self.lock = FileLock(run_dir / ".lock")

    def __enter__(self) -> "RunLog":
        if self.active:
            with self._writing():
                self._take()
                self.text = open(self.run_dir / "log.txt", "a", encoding="utf-8")
            logging.getLogger("sagan").addHandler(self.handler)
        return self

    def __exit__(self, *exception) -> None:
        logging.getLogger("sagan").removeHandler(self.handler)
        for writer in (self.board, self.metrics, self.text):
            with suppress(OSError):  # each line was flushed as it came; nothing may hide the error that ended the run
                if writer is not None:
                    writer.close()
        self.lock.release()

    def _take(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"run_dir {self.run_dir}: another process is training there; wait for it, or give another run_dir"
            ) from None

    def begin(self, step: int) -> None:
        """Opens the records for the steps after `step`; those that a run took before it was stopped are dropped."""
        if not self.active:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        forget_after(self.run_dir / "metrics.jsonl", step)
        with self._writing():
            self.metrics = open(self.run_dir / "metrics.jsonl", "a", encoding="utf-8")
            # Step 0 shows the real images, which a run that starts there shows again.
            self.board = SummaryWriter(str(self.run_dir), purge_step=step + 1 if step else 0)

    def say(self, *lines: str) -> None:
        """Prints lines, above the progress bar, and adds them to log.txt."""
        if not self.active:
            return
        for line in lines:
            tqdm.write(line)
        with self._writing():
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            self.text.write("".join(f"{stamp}  {line}\n" for line in lines))
            self.text.flush()

    def record(self, step: int, values: dict[str, float], *, group: str = "", **extra) -> None:
        """Appends one line to metrics.jsonl, and the values to TensorBoard, with `group` before their names."""
        if not self.active:
            return
        with self._writing():
            self.metrics.write(json.dumps({"step": step, **extra, **values}) + "\n")
            self.metrics.flush()
            for name, value in values.items():
                self.board.add_scalar(f"{group}{name}", value, step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Adds a uint8 image (C, H, W) to TensorBoard."""
        if not self.active:
            return
        with self._writing():
            self.board.add_image(name, image, step)
            self.board.flush()

    def blobs(self, name: str, blobs: list[bytes], step: int, plugin: str) -> None:
        """Adds a list of blobs to TensorBoard for one of its plugins. At most one to a name and step: TensorBoard's
        two loaders would keep different ones."""
        if not self.active:
            return
        from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

        shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=len(blobs))])
        metadata = summary_pb2.SummaryMetadata(
            plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
            data_class=summary_pb2.DATA_CLASS_BLOB_SEQUENCE,  # without it, no loader would show the data
        )
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=blobs)
        value = summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
        with self._writing():
            # SummaryWriter's own `add_tensor` cannot say whose the data are.
            self.board._get_file_writer().add_summary(summary_pb2.Summary(value=[value]), step)
            self.board.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"run_dir {self.run_dir}: the log cannot be written: {error}. Checkpoints are untouched."
            ) from error


class _Handler(logging.Handler):
    """Gives log messages to a RunLog."""

    def __init__(self, log: RunLog):
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.say(f"{record.levelname.lower()}: {record.getMessage()}")
