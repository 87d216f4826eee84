"""How the updates of `steps.py` run: one operation after another, compiled, or recorded as CUDA graphs."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributed import DistError  # pyright: ignore[reportPrivateImportUsage]

from sagan.config import ConfigError, UserError
from sagan.runtime.distributed import average, world_size
from sagan.training import steps
from sagan.training.adam import adam_states
from sagan.training.inputs import Inputs
from sagan.training.signals import StopRequest
from sagan.training.state import TrainState
from sagan.training.steps import Metrics, Updates

log = logging.getLogger(__name__)

BACKEND = "inductor"
WARM_UPS = 3  # as torch's documentation of CUDA graphs advises


def choose_updates(state: TrainState) -> Updates | None:
    """Return the updates of a run that `training.performance` selects; None means eager ones.

    Raise ConfigError for graphs without a GPU.
    """
    mode, on_gpu = state.config.training.performance, state.device.type == "cuda"
    if mode == "graphs" and not on_gpu:
        raise ConfigError(f"training.performance graphs: expected a GPU, but the device is {state.device}")
    if mode == "compiled":
        for network in (state.generator, state.discriminator):
            network.compile(backend=BACKEND, dynamic=False)
    if mode == "graphs" or (mode == "auto" and on_gpu):
        return GraphedUpdates(state, required=mode == "graphs")
    return None


@contextmanager
def updates_of_run(state: TrainState, stop: StopRequest) -> Iterator[Updates | None]:
    """Yield what `choose_updates` returns, and release its CUDA graphs at the end.

    NCCL waits for every graph that holds one of its messages before the processes can part. Raise UserError if torch
    cannot compile the networks, and KeyboardInterrupt if that is because a request to stop has ended its compiler too.
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
        if isinstance(updates, GraphedUpdates):
            updates.release()


def compile_error(error: RuntimeError) -> str:
    """Return why torch's compiler failed, in one line; nothing if it is an error of another kind."""
    from torch._dynamo.exc import BackendCompilerFailed  # loaded by the compiler, and slow to load without it

    if not isinstance(error, BackendCompilerFailed):
        return ""
    cause = error.inner_exception
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')}"


class GraphedUpdates:
    """Updates that are recorded as CUDA graphs on their first call and replayed after that.

    One graph computes the gradients of an update, and another one applies them; in between, the processes average them.
    Inputs must always be at the same addresses, as those of `InputBuffers` are. If recording fails and is not
    `required`, a warning says so and updates run eagerly.
    """

    def __init__(self, state: TrainState, required: bool):
        self.state = state
        self.required = required
        self.recordings: dict[str, Callable[[], Metrics]] = {}
        self.graphs: list[torch.cuda.CUDAGraph] = []

    def discriminator(self, state: TrainState, inputs: Inputs) -> Metrics:
        """Do what `discriminator_step` does."""
        return self._run("discriminator", inputs)

    def generator(self, state: TrainState, inputs: Inputs) -> Metrics:
        """Do what `generator_step` does."""
        return self._run("generator", inputs)

    def release(self) -> None:
        """Free the graphs, even if a traceback still refers to them."""
        self.recordings.clear()
        for graph in self.graphs:
            graph.reset()
        self.graphs.clear()

    def _run(self, kind: str, inputs: Inputs) -> Metrics:
        if kind not in self.recordings:
            self.recordings[kind] = self._recording(kind, inputs)
        return self.recordings[kind]()

    def _recording(self, kind: str, inputs: Inputs) -> Callable[[], Metrics]:
        """Return the update as a function without arguments, recorded if that is possible."""
        eager = {"discriminator": steps.discriminator_step, "generator": steps.generator_step}[kind]
        stream = torch.cuda.current_stream(self.state.device) if self.state.device.type == "cuda" else None
        try:
            return self._record(kind, inputs)
        except RuntimeError as error:
            if stream is not None:  # a recording that fails leaves its own stream in place
                torch.cuda.set_stream(stream)
            awaited = world_size() > 1 and self.state.config.model.generator.norm_sync
            if self.required or awaited or isinstance(error, DistError):
                raise  # the messages of a recording that stops halfway would meet those of others out of turn
            reason = str(error).splitlines()[0]
            log.warning("training.performance auto: eager, without a CUDA graph of the %s's update: %s", kind, reason)
            return lambda: eager(self.state, inputs)

    def _record(self, kind: str, inputs: Inputs) -> Callable[[], Metrics]:
        state = self.state

        def compute() -> tuple[list[Tensor], Metrics]:
            if kind == "discriminator":
                return steps.discriminator_gradients(state, inputs)
            return steps.generator_gradients(state, inputs)

        def apply(gradients: Sequence[Tensor]) -> None:
            if kind == "discriminator":
                steps.apply_to_discriminator(state, gradients)
            else:
                steps.apply_to_generator(state, gradients, inputs)

        def warm_up() -> None:
            side = torch.cuda.Stream(state.device)
            side.wait_stream(torch.cuda.current_stream(state.device))
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    apply(compute()[0])
            torch.cuda.current_stream(state.device).wait_stream(side)

        leave_unchanged(state, warm_up)
        first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.graphs += [first, second]
        # Thread-local, because the thread that fills blocks may allocate pinned memory meanwhile.
        with torch.cuda.graph(first, capture_error_mode="thread_local"):
            gradients, metrics = compute()
        with torch.cuda.graph(second, pool=first.pool(), capture_error_mode="thread_local"):
            apply(gradients)

        def replay() -> Metrics:
            first.replay()
            average(gradients)
            second.replay()
            vector = torch.stack(list(metrics.values()))  # a copy: the next replay overwrites the metrics
            return dict(zip(metrics, vector.unbind(), strict=True))

        return replay


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
