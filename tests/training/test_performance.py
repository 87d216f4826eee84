"""The ways to run updates: compiled ones agree with eager ones, and capture leaves the state as it was."""

import itertools
import logging
import signal

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch._ops import OpOverload

from sagan.config import ConfigError, UserError
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path
from sagan.training import performance
from sagan.training.inputs import step_inputs
from sagan.training.loop import train
from sagan.training.performance import CapturedUpdates, choose_updates, leave_unchanged, state_tensors
from sagan.training.steps import EAGER, discriminator_step, generator_step, train_step


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    """After some networks in one process, torch stops compiling the code of their class."""
    torch.compiler.reset()


def inputs_of(state, number=0):
    """Return the inputs of all updates."""
    n, random = state.config.training.batch_size, torch.Generator().manual_seed(number)

    def batch():
        images = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return images, torch.randint(3, (n,), generator=random), None

    generator = state.generator
    batches = (batch() for _ in itertools.count())
    return step_inputs(state.config.training, generator.z_dim, generator.num_classes, batches, state.step)


def test_warm_up_leaves_the_state_as_it_was(make_state):
    state = make_state("training.ema_start=1")
    inputs = inputs_of(state)
    train_step(state, inputs)
    before = [t.clone() for t in state_tensors(state)]
    # Networks, averages and both optimizers: weights, statistics, singular vectors, steps and moments.
    assert len(before) > 3 * len(list(state.generator.parameters())) + 3 * len(list(state.discriminator.parameters()))

    def update():
        discriminator_step(state, next(inputs))
        generator_step(state, next(inputs))
        changed = [not torch.equal(t, b) for t, b in zip(state_tensors(state), before, strict=True)]
        assert sum(changed) > 0.7 * len(changed)

    leave_unchanged(state, update)
    assert all(torch.equal(t, b) for t, b in zip(state_tensors(state), before, strict=True))


def test_the_state_is_put_back_if_warm_up_fails(make_state):
    state = make_state()
    before = [t.clone() for t in state_tensors(state)]

    def fail():
        state.generator.to_image.weight.data.fill_(3)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        leave_unchanged(state, fail)
    assert all(torch.equal(t, b) for t, b in zip(state_tensors(state), before, strict=True))


def test_if_capture_fails_auto_continues_eagerly_with_the_same_result(make_state, monkeypatch, caplog):
    def refuse(self, compute, *others):
        try:
            raise RuntimeError(f"operation not permitted: {compute.__name__}\nmore")
        finally:
            raise RuntimeError("the capture was invalidated")  # as at the end of torch.cuda.graph

    monkeypatch.setattr(CapturedUpdates, "capture", refuse)
    captured, eager = make_state(), make_state()
    with caplog.at_level(logging.WARNING):
        one = train_step(captured, inputs_of(captured), CapturedUpdates(required=False).updates())
    two = train_step(eager, inputs_of(eager))
    assert all(torch.equal(one[name], two[name]) for name in two)
    reason = "the discriminator's update cannot be captured: operation not permitted: discriminator_gradients"
    said = [f"training.performance auto: eager, without CUDA graphs: {reason}"]
    assert [record.getMessage() for record in caplog.records] == said  # once, for both
    with pytest.raises(RuntimeError, match="invalidated"):
        train_step(make_state(), inputs_of(eager), CapturedUpdates(required=True).updates())


def test_graphs_need_a_gpu_and_a_cpu_is_eager(make_state):
    assert choose_updates(make_state()) == choose_updates(make_state("training.performance=eager")) == EAGER
    with pytest.raises(ConfigError, match=r"^training.performance graphs: expected a GPU, but the device is cpu$"):
        choose_updates(make_state("training.performance=graphs"))


def test_how_updates_run_may_change_when_a_run_is_resumed(make_config, tmp_path, monkeypatch):
    """`optimizer.eps` keeps Adam from turning differences in rounding into whole learning rates."""
    monkeypatch.setattr(performance, "BACKEND", "aot_eager")
    steady = "optimizer.eps=1e-3", "checkpoint.keep=2", "checkpoint.every=1"
    train(make_config("training.steps=1", "training.performance=eager", *steady))
    train(make_config("training.steps=2", "training.performance=compiled", *steady))
    train(make_config("training.steps=2", f"run_dir={tmp_path / 'whole'}", *steady))
    first, one, two = (
        load_checkpoint(checkpoint_path(tmp_path / name, step))["discriminator"]
        for name, step in (("whole", 1), ("run", 2), ("whole", 2))
    )
    for name, value in two.items():
        torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-6)
    assert max(float((value - first[name]).abs().max()) for name, value in two.items()) > 1e-4


@pytest.mark.parametrize("stopped", [False, True])
def test_a_compiler_that_fails_is_one_line_unless_a_request_to_stop_has_ended_it(make_config, monkeypatch, stopped):
    def compiler(graph, inputs):
        if stopped:
            signal.raise_signal(signal.SIGINT)
        raise OSError("no compiler here\nand more")

    monkeypatch.setattr(performance, "BACKEND", compiler)
    said = "training.performance compiled: torch cannot compile the networks here: OSError: no compiler here; use eager"
    with pytest.raises(KeyboardInterrupt if stopped else UserError, match=None if stopped else f"^{said}$"):
        train(make_config("training.steps=2", "training.performance=compiled"))


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_compiled_updates_agree_with_eager_ones(make_state, monkeypatch, backend):
    monkeypatch.setattr(performance, "BACKEND", backend)
    compiled, eager = (
        make_state("training.batch_size=8", "optimizer.eps=1e-3", f"training.performance={mode}")
        for mode in ("compiled", "eager")
    )
    updates, given, same = choose_updates(compiled), inputs_of(compiled), inputs_of(eager)
    for _ in range(2):
        one, two = train_step(compiled, given, updates), train_step(eager, same)
        for name in two:
            torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_graphs_of_compiled_networks_hold_few_operations(make_state, monkeypatch):
    """A step at 32x32 traces seven of them: G, D and D's gradient for D; G, D and both gradients for G."""
    graphs = []

    def count(graph, inputs):
        called = [n.target for n in graph.graph.nodes if n.op == "call_function"]
        graphs.append(sum(isinstance(t, OpOverload) and not t.is_view for t in called))
        return make_boxed_func(graph.forward)

    monkeypatch.setattr(performance, "BACKEND", aot_autograd(fw_compiler=count, bw_compiler=count))
    state = make_state("training.performance=compiled")
    state.generator.compute_dtype = state.discriminator.compute_dtype = torch.bfloat16
    updates, inputs = choose_updates(state), inputs_of(state)
    train_step(state, inputs, updates)
    assert len(graphs) == 7 and sum(graphs) <= 700, graphs
    train_step(state, inputs, updates)
    assert len(graphs) == 7  # nothing is traced again
