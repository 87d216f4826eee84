"""How the updates of `steps.py` run: one operation after another, compiled, or captured as CUDA graphs."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed import DistError

from sagan.config import ConfigError, UserError
from sagan.runtime.distributed import average, world_size
from sagan.training import steps
from sagan.training.adam import adam_states
from sagan.training.inputs import Inputs
from sagan.training.signals import StopRequest
from sagan.training.state import TrainState
from sagan.training.steps import EAGER, Metrics, Update, Updates

log = logging.getLogger(__name__)
T = TypeVar("T")
Compute = Callable[[TrainState, Inputs], tuple[list[Tensor], Metrics]]
Apply = Callable[[TrainState, Sequence[Tensor], Inputs], None]

BACKEND = "inductor"
WARM_UPS = 3  # as torch's documentation of CUDA graphs advises


def choose_updates(state: TrainState) -> Updates:
    """Return the updates of a run that `training.performance` selects.

    Raise ConfigError for graphs without a GPU.
    """
    mode, on_gpu = state.config.training.performance, state.device.type == "cuda"
    require_mode(mode, state.device)
    if mode == "compiled":
        for network in (state.generator, state.discriminator):
            network.compile(backend=BACKEND, dynamic=False)
    if mode == "graphs" or (mode == "auto" and on_gpu):
        return CapturedUpdates(required=mode == "graphs").updates()
    return EAGER


def require_mode(mode: str, device: torch.device) -> None:
    """Raise ConfigError for graphs without a GPU."""
    if mode == "graphs" and device.type != "cuda":
        raise ConfigError(f"training.performance graphs: expected a GPU, but the device is {device}")


@contextmanager
def updates_of_run(state: TrainState, stop: StopRequest) -> Iterator[Updates]:
    """Yield what `choose_updates` returns, and release its CUDA graphs at the end.

    NCCL waits for every graph that holds one of its collectives before the process group can be destroyed. Raise
    UserError if torch cannot compile the networks, and KeyboardInterrupt if that is because a request to stop has ended
    its compiler too.
    """
    updates = choose_updates(state)
    try:
        yield updates
    except RuntimeError as error:
        reason = compile_error(error) if state.config.training.performance == "compiled" else ""
        if reason and stop.name:
            raise KeyboardInterrupt from error
        if reason:
            raise UserError(
                f"training.performance compiled: torch cannot compile the networks here: {reason}; use eager"
            ) from error
        raise
    finally:
        updates.release()


def compile_error(error: RuntimeError) -> str:
    """Return why torch's compiler failed, in one line; nothing if it is an error of another kind."""
    from torch._dynamo.exc import BackendCompilerFailed  # loaded by the compiler, and slow to load without it

    if not isinstance(error, BackendCompilerFailed):
        return ""
    cause = error.inner_exception
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')}"


class Graphs:
    """The CUDA graphs of a run, on one stream and in one pool of memory.

    They share the pool because they are replayed in the order of their capture: memory that one update no longer needs
    may be reused by the other. Results stay referenced, so theirs is not.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)  # torch's own stream for captures stays on the first GPU ever used
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: list[torch.cuda.CUDAGraph] = []

    def warm_up(self, function: Callable[[], object]) -> None:
        """Call a function a few times, as a capture requires."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UPS):
                    function()
        finally:  # what is queued still writes to the state
            current.wait_stream(self.stream)

    def capture(self, function: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        """Return a graph of what a function does on the GPU, and the tensors that it returns, without numbers yet."""
        graph = torch.cuda.CUDAGraph()
        self.captured.append(graph)
        # Thread-local, because the thread that fills blocks may allocate pinned memory meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            result = function()
        return graph, result

    def release(self) -> None:
        """Free the memory of the graphs, even if a traceback still refers to them. The GPU is not waited for."""
        for graph in self.captured:
            graph.reset()
        self.captured.clear()


class CapturedUpdates:
    """Updates that are captured as CUDA graphs on their first call and replayed after that.

    One graph computes the gradients of an update, and another one applies them; in between, the processes average them.
    State and inputs must always be at the same addresses, as those of `InputBuffers` are. If a capture fails and is not
    `required`, a warning says so and both updates run eagerly.
    """

    def __init__(self, required: bool):
        self.required = required
        self.graphs: Graphs | None = None
        self.replays: dict[str, Callable[[], Metrics]] = {}
        self.failed = False

    def updates(self) -> Updates:
        """Return both updates."""
        return Updates(
            self.captured("discriminator", steps.discriminator_gradients, steps.apply_to_discriminator),
            self.captured("generator", steps.generator_gradients, steps.apply_to_generator),
            self.release,
        )

    def captured(self, name: str, compute: Compute, apply: Apply) -> Update:
        """Return an update that is captured when it is first called."""

        def update(state: TrainState, inputs: Inputs) -> Metrics:
            if not self.failed and name not in self.replays:
                self.try_to_capture(name, compute, apply, state, inputs)
            return getattr(EAGER, name)(state, inputs) if self.failed else self.replays[name]()

        return update

    def try_to_capture(self, name: str, compute: Compute, apply: Apply, state: TrainState, inputs: Inputs) -> None:
        """Capture an update, or drop all graphs and run eagerly; raise if other processes would wait for this one."""
        stream = torch.cuda.current_stream(state.device) if state.device.type == "cuda" else None
        try:
            self.replays[name] = self.capture(compute, apply, state, inputs)
        except RuntimeError as error:
            if stream is not None:  # a capture that fails leaves its own stream in place
                torch.cuda.set_stream(stream)
            cause = error  # a broken capture raises an error of its own at its end
            while isinstance(cause.__context__, RuntimeError):
                cause = cause.__context__
            awaited = world_size() > 1 and state.config.model.generator.norm_sync
            if self.required or awaited or any(isinstance(e, DistError) for e in (error, cause)):
                raise  # the messages of a capture that stops halfway would meet those of others out of turn
            self.failed = True
            self.release()
            with suppress(RuntimeError):  # torch before 2.13 refuses after a capture that failed
                torch.cuda.empty_cache()  # the graphs' memory is of no use to eager updates
            what = f"eager, without CUDA graphs: the {name}'s update cannot be captured"
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            log.warning("training.performance auto: %s: %s", what, reason)

    def capture(self, compute: Compute, apply: Apply, state: TrainState, inputs: Inputs) -> Callable[[], Metrics]:
        """Return a function that replays an update."""
        graphs = self.graphs = self.graphs or Graphs(state.device)
        leave_unchanged(state, lambda: graphs.warm_up(lambda: apply(state, compute(state, inputs)[0], inputs)))
        first, (gradients, metrics) = graphs.capture(lambda: compute(state, inputs))
        second, _ = graphs.capture(lambda: apply(state, gradients, inputs))

        def replay() -> Metrics:
            first.replay()
            average(gradients)
            second.replay()
            vector = torch.stack(list(metrics.values()))  # a copy: the next replay overwrites the metrics
            return dict(zip(metrics, vector.unbind(), strict=True))

        return replay

    def release(self) -> None:
        """Free the graphs."""
        self.replays.clear()
        if self.graphs is not None:
            self.graphs.release()


def leave_unchanged(state: TrainState, function: Callable[[], object]) -> None:
    """Call a function that may change any tensor of the state, then restore all of them."""
    tensors = state_tensors(state)
    before = [t.clone(memory_format=torch.preserve_format) for t in tensors]
    try:
        function()
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)


def state_tensors(state: TrainState) -> list[Tensor]:
    """Return every tensor that updates change."""
    of_networks = [t.detach() for network in state.networks.values() for t in network.state_dict().values()]
    of_optimizers = [t for o in state.optimizers.values() for m in adam_states(o) for t in m.values()]
    return of_networks + of_optimizers
