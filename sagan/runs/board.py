"""TensorBoard's event file of a run, written immediately and in the caller's thread.

torch's SummaryWriter writes in a thread of its own: on a full disk, that thread prints a traceback, and the error
reaches the run late or not at all.
"""

import os
import re
import socket
import time
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from sagan.runs.dashboard import description

NAME = re.compile(r"events\.out\.tfevents\.(\d{1,12})\.")
VERSION = "brain.Event:2"  # what TensorBoard calls this format


class Board:
    """A new event file in a run directory. Every method raises OSError if it cannot be written.

    TensorBoard drops what earlier files hold for `purge_step` and later steps.
    """

    def __init__(self, run_dir: Path, purge_step: int):
        from tensorboard.summary.writer.record_writer import RecordWriter  # slow to import

        # TensorBoard reads files in the order of their names. Between two, the clock may stand still or go back.
        stamps = [int(m[1]) for p in run_dir.iterdir() if (m := NAME.match(p.name))]
        stamp = max(int(time.time()), max(stamps, default=0) + 1)
        name = f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self.file = open(run_dir / name, "xb")
        self.writer = RecordWriter(self.file)
        events = _protos("event_pb2")
        self._write(file_version=VERSION)
        self._write(step=purge_step, file_version=VERSION)
        self._write(step=purge_step, session_log=events.SessionLog(status=events.SessionLog.START))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add numbers by their names."""
        from torch.utils.tensorboard.summary import scalar

        for name, value in values.items():
            # The new style, because TensorBoard's data server drops the description of the old one.
            self.summary(_described(scalar(name, value, new_style=True)), step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Add a uint8 image (C, H, W)."""
        from torch.utils.tensorboard.summary import image as image_summary

        self.summary(_described(image_summary(name, image, dataformats="CHW")), step)

    def text(self, name: str, text: str, step: int) -> None:
        """Add a text in Markdown."""
        from torch.utils.tensorboard.summary import text as text_summary

        self.summary(text_summary(name, text), step)

    def blobs(self, name: str, blobs: list[bytes], step: int, plugin: str) -> None:
        """Add a list of blobs for a plugin of TensorBoard."""
        summaries, tensors = _protos("summary_pb2"), _protos("tensor_pb2")
        shapes, types = _protos("tensor_shape_pb2"), _protos("types_pb2")
        shape = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=len(blobs))])
        metadata = summaries.SummaryMetadata(
            plugin_data=summaries.SummaryMetadata.PluginData(plugin_name=plugin),
            data_class=summaries.DATA_CLASS_BLOB_SEQUENCE,  # without it, neither loader shows the data
        )
        tensor = tensors.TensorProto(dtype=types.DT_STRING, tensor_shape=shape, string_val=blobs)
        value = summaries.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
        self.summary(summaries.Summary(value=[value]), step)

    def summary(self, summary: Any, step: int) -> None:
        """Add a summary, a protocol buffer."""
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Hand everything over to the operating system."""
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _write(self, **content: Any) -> None:
        event = _protos("event_pb2").Event(wall_time=time.time(), **content)
        self.writer.write(event.SerializeToString())


def _described(summary: Any) -> Any:
    """Return a summary with the description of its tag, which TensorBoard shows beside it."""
    for value in summary.value:
        value.metadata.summary_description = description(value.tag)
    return summary


def _protos(module: str) -> Any:
    """Return a module of TensorBoard's protocol buffers, which are generated: a type checker sees no names in them."""
    from importlib import import_module

    return cast(Any, import_module(f"tensorboard.compat.proto.{module}"))
