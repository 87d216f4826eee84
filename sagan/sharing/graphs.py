"""Networks as graphs that need no code of this project: ONNX, and the .pt2 of torch.export.

A graph takes any number of images. Its metadata entry `sagan` holds what the safetensors of `sagan export` hold.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sagan.attention import AttentionMap, attention_layers, capture_maps, resolve
from sagan.config import AttentionConfig, Config, UserError
from sagan.config.errors import one_line
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import origin_of
from sagan.runs.checkpoints import pinned
from sagan.runs.networks import load_discriminator, load_generator
from sagan.runs.saved_networks import holds_discriminator
from sagan.runtime.extras import require_extra
from sagan.runtime.files import write_atomically

TOLERANCE = 1e-4  # absolute below 1, relative above
CHECKED_BATCHES = (1, 3)  # neither is the size at which a graph is traced
TRACED_BATCH = 2


class Graph(nn.Module):
    """A network with a fixed signature: G as (z, y) -> image, D as (image, y) -> logit, followed by maps if wanted.

    A network without classes has no input y.
    """

    def __init__(self, network: Generator | Discriminator, maps: bool):
        super().__init__()
        self.network = network
        self.maps = maps
        self.kind = "generator" if isinstance(network, Generator) else "discriminator"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the image or logit, then the weights of every map, in the order of the outputs' names."""
        result, maps = self.look(*inputs)
        return result, *(m.weights for m in maps.values())

    def look(self, *inputs: Tensor) -> tuple[Tensor, dict[str, AttentionMap]]:
        """Return the result, and the maps by the names of their outputs, empty unless `self.maps`."""
        if not self.maps:
            return self.network(*inputs), {}
        with capture_maps(self.network) as found:
            result = self.network(*inputs)
        return result, {
            f"{layer}.map" if len(maps) == 1 else f"{layer}.map{i}": attention_map
            for layer, maps in found.items()
            for i, attention_map in enumerate(maps)
        }

    @property
    def names(self) -> list[str]:
        """Return the names of the inputs."""
        first = "z" if self.kind == "generator" else "image"
        return [first, "y"] if self.network.num_classes else [first]

    def inputs(self, n: int) -> tuple[Tensor, ...]:
        """Return inputs for n images, always the same for the same n."""
        random, network = torch.Generator().manual_seed(n), self.network
        if isinstance(network, Generator):
            first = torch.randn(n, network.z_dim, generator=random)
        else:
            first = torch.rand(n, network.image_channels, *network.size, generator=random) * 2 - 1
        return (first, torch.arange(n) % network.num_classes) if network.num_classes else (first,)


def export_graphs(
    run: str | Path, out: Path, form: str, checkpoint: str | None = None, *, maps: bool = False
) -> list[Path]:
    """Write G and, if the run or file has it, D as graphs in a folder. Return the files.

    `form` is onnx or pt2. Raise UserError if packages are missing, or as `graph_bytes` does.
    """
    if form == "onnx":
        require_extra("onnx", ("onnx", "onnxscript", "onnxruntime"), "--format onnx")
    run, checkpoint = pinned(run, checkpoint)  # both networks are of one step
    networks: list[Generator | Discriminator] = [load_generator(run, checkpoint=checkpoint)]
    if holds_discriminator(run, checkpoint):
        networks.append(load_discriminator(run, checkpoint=checkpoint))
    graphs, written = [Graph(network, maps) for network in networks], []
    for graph in graphs:
        refuse_bf16(graph, form)
    for graph in graphs:
        blob = graph_bytes(graph, form)
        written.append(out / f"{graph.kind}.{form}")
        write_atomically(written[-1], lambda file, blob=blob: file.write(blob))
    return written


def graph_bytes(graph: Graph, form: str) -> bytes:
    """Return a graph's file, after reading it back and checking its outputs to 1e-4 (ONNX in onnxruntime).

    Raise UserError, naming the attention, if the format cannot carry the network.
    """
    refuse_bf16(graph, form)
    try:
        with quiet():
            blob, run_graph = {"onnx": onnx_bytes, "pt2": pt2_bytes}[form](graph)
        require_equal(graph, run_graph)
    except Exception as error:  # each exporter raises its own errors
        reason = one_line(error)[:300]
        raise UserError(f"--format {form}: {described(graph)} cannot be written: {reason}") from error
    return blob


Runner = Callable[[tuple[Tensor, ...]], list[Tensor]]
"""Runs a graph that has been read back: inputs -> outputs."""


def onnx_bytes(graph: Graph) -> tuple[bytes, Runner]:
    """Return an ONNX file, and a function that runs it."""
    import onnxruntime
    from onnxscript import optimizer

    outputs = ["image" if graph.kind == "generator" else "logit", *graph.look(*graph.inputs(TRACED_BATCH))[1]]
    traced = traced_program(graph)
    program: Any = torch.onnx.export(
        traced, dynamo=True, optimize=False, input_names=graph.names, output_names=outputs, verbose=False
    )
    # Whatever depends on weights alone, such as the division by a singular value, is computed now.
    optimizer.optimize(program.model, input_size_limit=2**31, output_size_limit=2**31)
    program.rename_axes({program.model.graph.inputs[0].shape[0]: "N"})
    program.model.metadata_props["sagan"] = json.dumps(metadata_of(graph))
    buffer = io.BytesIO()
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        feed = {name: value.numpy() for name, value in zip(graph.names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    return buffer.getvalue(), run


def pt2_bytes(graph: Graph) -> tuple[bytes, Runner]:
    """Return a file that `torch.export.load` reads, and a function that runs it."""
    buffer = io.BytesIO()
    torch.export.save(traced_program(graph), buffer, extra_files={"sagan": json.dumps(metadata_of(graph))})
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda inputs: list(module(*inputs))


def traced_program(graph: Graph) -> torch.export.ExportedProgram:
    """Return the network as torch.export sees it, for any number of images."""
    inputs, batch = graph.inputs(TRACED_BATCH), torch.export.Dim("N")
    with torch.no_grad():
        return torch.export.export(graph, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),), strict=False)


@torch.no_grad()
def require_equal(graph: Graph, run_graph: Runner) -> None:
    """Raise ValueError unless the outputs of a graph are those of the network."""
    for n in CHECKED_BATCHES:
        inputs = graph.inputs(n)
        for expected, found in zip(graph(*inputs), run_graph(inputs), strict=True):
            error = ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()
            if not error <= TOLERANCE:
                raise ValueError(f"its results differ by {error:.1e}, but only {TOLERANCE:g} is allowed")


def metadata_of(graph: Graph) -> dict[str, Any]:
    """Return the metadata of a graph: its run, and the kinds of its maps by the names of their outputs."""
    origin = origin_of(graph.network)
    weights = f"{graph.kind}_ema" if origin.averaged else graph.kind
    maps = graph.look(*graph.inputs(TRACED_BATCH))[1]
    kinds = {
        name: {
            "kind": m.kind,
            "query_size": list(m.query_size),
            "key_size": None if m.key_size is None else list(m.key_size),
            "distribution": m.distribution,
        }
        for name, m in maps.items()
    }
    known = {"config": asdict(origin.config), "step": origin.step, "weights": weights}
    return {**known, "class_names": origin.class_names, **({"maps": kinds} if graph.maps else {})}


def attention_of(graph: Graph) -> AttentionConfig:
    """Return the attention that the network is configured with."""
    config: Config = origin_of(graph.network).config
    return getattr(config.model, graph.kind).attention


def described(graph: Graph) -> str:
    """Return a network and its attention as an error names them."""
    spec = attention_of(graph)
    if not attention_layers(graph.network):
        return f"the {graph.kind} without attention"
    options = "".join(f", options.{name} {value}" for name, value in spec.options.items())
    return f"the {graph.kind} with attention kind {spec.kind}{options}"


def refuse_bf16(graph: Graph, form: str) -> None:
    """Raise UserError if attention computes in bf16, but the format's CPU runtime has no bf16 products."""
    options = resolve(attention_of(graph))[1]
    if form == "onnx" and attention_layers(graph.network) and getattr(options, "precision", "float32") == "bf16":
        raise UserError(
            f"--format onnx: {described(graph)}: onnxruntime has no bf16 products on a CPU; --format pt2 carries them"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages of exporters that are meant for developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
