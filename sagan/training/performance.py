"""How the updates of `steps.py` run: one operation after another, compiled, or captured as CUDA graphs."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
Compute = Callable[[TrainState, Inputs], tuple[list[Tensor], Metrics]]
Apply = Callable[[TrainState, Sequence[Tensor], Inputs], None]

BACKEND = "inductor"
WARM_UPS = 3  # as torch's documentation of CUDA graphs advises


def choose_updates(state: TrainState) -> Updates:
    """Return the updates of a run that `training.performance` selects.

    Raise ConfigError for graphs without a GPU.
    """
    mode, on_gpu = state.config.training.performance, state.device.type == "cuda"
    if mode == "graphs" and not on_gpu:
        raise ConfigError(f"training.performance graphs: expected a GPU, but the device is {state.device}")
    if mode == "compiled":
        for network in (state.generator, state.discriminator):
            network.compile(backend=BACKEND, dynamic=False)
    if mode == "graphs" or (mode == "auto" and on_gpu):
        return captured_updates(required=mode == "graphs")
    return EAGER


@contextmanager
def updates_of_run(state: TrainState, stop: StopRequest) -> Iterator[Updates]:
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
        for update in updates:
            if isinstance(update, CapturedUpdate):
                update.release()


def compile_error(error: RuntimeError) -> str:
    """Return why torch's compiler failed, in one line; nothing if it is an error of another kind."""
    from torch._dynamo.exc import BackendCompilerFailed  # loaded by the compiler, and slow to load without it

    if not isinstance(error, BackendCompilerFailed):
        return ""
    cause = error.inner_exception
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')}"


class CapturedUpdate:
    """An update that is captured as CUDA graphs on its first call and replayed after that.

    One graph computes the gradients, and another one applies them; in between, the processes average them. State and
    inputs must always be at the same addresses, as those of `InputBuffers` are. If capture fails and is not `required`,
    a warning says so and the update runs eagerly.
    """

    def __init__(self, name: str, eager: Update, compute: Compute, apply: Apply, required: bool):
        self.name = name
        self.eager = eager
        self.compute = compute
        self.apply = apply
        self.required = required
        self.run: Callable[[], Metrics] | None = None
        self.graphs: list[torch.cuda.CUDAGraph] = []

    def __call__(self, state: TrainState, inputs: Inputs) -> Metrics:
        if self.run is None:
            self.run = self.capture_or_eager(state, inputs)
        return self.run()

    def release(self) -> None:
        """Free the graphs, even if a traceback still refers to them."""
        self.run = None
        for graph in self.graphs:
            graph.reset()
        self.graphs.clear()

    def capture_or_eager(self, state: TrainState, inputs: Inputs) -> Callable[[], Metrics]:
        """Return the update as a function without arguments, captured if that is possible."""
        stream = torch.cuda.current_stream(state.device) if state.device.type == "cuda" else None
        try:
            return self.capture(state, inputs)
        except RuntimeError as error:
            if stream is not None:  # a capture that fails leaves its own stream in place
                torch.cuda.set_stream(stream)
            awaited = world_size() > 1 and state.config.model.generator.norm_sync
            if self.required or awaited or isinstance(error, DistError):
                raise  # the messages of a capture that stops halfway would meet those of others out of turn
            reason = str(error).splitlines()[0]
            what = f"eager, without a CUDA graph of the {self.name}'s update"
            log.warning("training.performance auto: %s: %s", what, reason)
            return lambda: self.eager(state, inputs)

    def capture(self, state: TrainState, inputs: Inputs) -> Callable[[], Metrics]:
        """Return a function that replays the update."""

        def warm_up() -> None:
            side = torch.cuda.Stream(state.device)
            side.wait_stream(torch.cuda.current_stream(state.device))
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self.apply(state, self.compute(state, inputs)[0], inputs)
            torch.cuda.current_stream(state.device).wait_stream(side)

        leave_unchanged(state, warm_up)
        first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.graphs += [first, second]
        # Thread-local, because the thread that fills blocks may allocate pinned memory meanwhile.
        with torch.cuda.graph(first, capture_error_mode="thread_local"):
            gradients, metrics = self.compute(state, inputs)
        with torch.cuda.graph(second, pool=first.pool(), capture_error_mode="thread_local"):
            self.apply(state, gradients, inputs)

        def replay() -> Metrics:
            first.replay()
            average(gradients)
            second.replay()
            vector = torch.stack(list(metrics.values()))  # a copy: the next replay overwrites the metrics
            return dict(zip(metrics, vector.unbind(), strict=True))

        return replay


def captured_updates(required: bool) -> Updates:
    """Return the updates as CUDA graphs, not captured yet. If `required`, one that cannot be captured raises."""
    return Updates(
        discriminator=CapturedUpdate(
            "discriminator",
            steps.discriminator_step,
            steps.discriminator_gradients,
            steps.apply_to_discriminator,
            required,
        ),
        generator=CapturedUpdate(
            "generator", steps.generator_step, steps.generator_gradients, steps.apply_to_generator, required
        ),
    )


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
