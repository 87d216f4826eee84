"""What a GPU has to show: captured updates, waits, precision, memory, NCCL. `make test-gpu` runs these tests.

Those that can do so also run on a CPU, so that they are known to be right before a GPU is at hand.
"""

import io
import itertools
import json
import logging

import pytest
import torch
import torch.distributed as dist

from sagan.attention import KINDS
from sagan.training import performance, steps
from sagan.training.adam import adam_states
from sagan.training.health import FiniteWatch
from sagan.training.input_buffers import InputBuffers, pack_inputs
from sagan.training.inputs import step_inputs
from sagan.training.performance import choose_updates, state_tensors
from sagan.training.state import build_state
from sagan.training.steps import train_step
from tests.helpers.attention_kinds import build, images
from tests.test_torchrun import torchrun

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
ON_GPU = pytest.param("cuda", marks=NEEDS_GPU)
# Captured as graphs on a GPU. On a CPU only traced: to compile them takes a minute each.
MODES = [pytest.param("cpu", "compiled", marks=pytest.mark.slow), pytest.param("cuda", "graphs", marks=NEEDS_GPU)]

CASES = {
    **{kind: [f"model.{n}.attention.kind={kind}" for n in ("generator", "discriminator")] for kind in KINDS},
    "augmented": ["training.diffaugment=[color,translation,cutout]"],
    "micro-batches": ["training.micro_batches=2", "training.d_steps=2"],
    "synchronized": ["model.generator.norm_sync=true"],
    "spectral norm of the tables": ["model.generator.norm_spectral=true"],
    "unconditional": ["data.num_classes=0"],
    "without an average": ["training.ema_decay=0"],
}


def steps_of(make_config, device, *overrides, dtype=torch.float32, taken=0):
    """Return a state and a function that takes a step from given images and returns metrics and gradients.

    The images and draws are those that follow `taken` steps.
    """
    widths = "model.generator.channels=8", "model.discriminator.channels=16"  # that carry every kind
    config = make_config("training.batch_size=8", *widths, *overrides)
    state = build_state(config, torch.device(device), dtype)
    generator, random = state.generator, torch.Generator().manual_seed(0)

    def batch():
        n, classes = config.training.batch_size, generator.num_classes
        real = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return real, torch.randint(classes, (n,), generator=random) if classes else None, None

    batches = (batch() for _ in itertools.count())
    inputs = step_inputs(config.training, generator.z_dim, generator.num_classes, batches, state.step)
    if device == "cuda":
        inputs = map(InputBuffers(state.device).load, (pack_inputs(i, pin=True) for i in inputs))
    for _ in range(taken * (config.training.d_steps + 1)):
        next(inputs)
    updates = choose_updates(state)

    def step():
        metrics = train_step(state, inputs, updates)
        networks = {"discriminator": state.discriminator, "generator": generator}
        gradients = {n: torch.cat([p.grad.flatten() for p in m.parameters()]) for n, m in networks.items()}
        return {k: v.clone() for k, v in metrics.items()}, gradients

    return state, step


@pytest.mark.timeout(120)
@pytest.mark.parametrize("overrides", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize(("device", "mode"), MODES)
def test_every_way_to_run_updates_agrees_with_eager_ones(
    make_config, monkeypatch, record_property, device, mode, overrides
):
    """`optimizer.eps` keeps Adam from turning differences in rounding into whole learning rates."""
    monkeypatch.setattr(performance, "BACKEND", "aot_eager")
    exact_cudnn(monkeypatch)
    torch.compiler.reset()  # or else torch stops compiling after some layers
    (state, eager), (other_state, other) = (
        steps_of(make_config, device, "optimizer.eps=1e-3", f"training.performance={m}", *overrides)
        for m in ("eager", mode)
    )
    largest = 0.0
    for _ in range(3):
        for tensor, value in zip(state_tensors(other_state), state_tensors(state), strict=True):
            tensor.copy_(value)  # differences in rounding would grow from step to step
        (metrics, gradients), (others, other_gradients) = eager(), other()
        for name, value in metrics.items():
            torch.testing.assert_close(others[name], value, rtol=1e-5, atol=1e-5, msg=name)
        found = {name: difference(other_gradients[name], value) for name, value in gradients.items()}
        assert all(value <= 1e-5 for value in found.values()), found  # NaN is not
        largest = max(largest, *found.values())
    record_property("largest relative difference of gradients", f"{largest:.1e}")


def exact_cudnn(monkeypatch):
    """Let cuDNN neither round to TF32 nor add in an order that changes from call to call."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def difference(found, expected):
    """Return the relative difference of two vectors."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.timeout(190)  # the compiler starts cold
@pytest.mark.parametrize(
    ("mode", "dtype", "most"), [("compiled", torch.float32, 1e-3), ("graphs", torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("device", [ON_GPU])
def test_the_real_compiler_and_bf16_graphs_agree_with_eager_updates(
    make_config, monkeypatch, record_property, device, mode, dtype, most
):
    exact_cudnn(monkeypatch)
    torch.compiler.reset()
    (state, eager), (other_state, other) = (
        steps_of(make_config, device, "optimizer.eps=1e-3", f"training.performance={m}", dtype=dtype)
        for m in ("eager", mode)
    )
    largest = 0.0
    for _ in range(2):
        for tensor, value in zip(state_tensors(other_state), state_tensors(state), strict=True):
            tensor.copy_(value)
        (metrics, gradients), (others, other_gradients) = eager(), other()
        for name, value in metrics.items():
            torch.testing.assert_close(others[name], value, rtol=most, atol=most, msg=name)
        found = {name: difference(other_gradients[name], value) for name, value in gradients.items()}
        assert all(value <= most for value in found.values()), found
        largest = max(largest, *found.values())
    record_property("largest relative difference of gradients", f"{largest:.1e}")


@pytest.mark.parametrize("mode", ["eager", "graphs"])
@pytest.mark.parametrize("device", [ON_GPU])
def test_steps_and_their_check_wait_for_nothing(make_config, device, mode):
    state, step = steps_of(make_config, device, f"training.performance={mode}")
    watch = FiniteWatch(state)
    for _ in range(2):  # the first one allocates and captures
        watch.check(state.step, step()[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            watch.check(state.step, step()[0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    watch.require()


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("kind", ["sagan", "none"])
def test_bf16_agrees_with_float32(make_config, record_property, device, kind):
    """bf16 has 8 bits of precision: losses agree to a few parts in a hundred, and gradients nearly in direction."""
    kinds = [f"model.{n}.attention.kind={kind}" for n in ("generator", "discriminator")]
    (_, exact), (_, rounded) = (steps_of(make_config, device, *kinds, dtype=d) for d in (torch.float32, torch.bfloat16))
    (metrics, gradients), (others, other_gradients) = exact(), rounded()
    for name in ("loss/discriminator", "loss/generator"):
        torch.testing.assert_close(others[name].float(), metrics[name], rtol=0.05, atol=0.05, msg=name)
    for name, value in gradients.items():
        cosine = torch.nn.functional.cosine_similarity(other_gradients[name].float(), value, dim=0)
        record_property(f"cosine of the gradients of the {name}", f"{cosine:.4f}")
        assert cosine > 0.97, (name, cosine)


@pytest.mark.parametrize("kind", ["sagan", "multihead"])
@pytest.mark.parametrize("device", [ON_GPU])
def test_memory_of_attention_is_linear_in_the_number_of_pixels(record_property, device, kind):
    """Four times as many pixels take four times the memory. A matrix of weights would take sixteen times."""

    def peak(side):
        layer = build(kind, size=(side, side)).to(device)
        x = images(size=(side, side), number=8).to(device, torch.bfloat16).requires_grad_()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        layer(x).float().square().mean().backward()
        return torch.cuda.max_memory_allocated() - before

    peak(32)  # workspaces that stay
    ratio = peak(64) / peak(32)
    record_property("memory of 64x64 over that of 32x32", f"{ratio:.2f}")
    assert ratio < 5


@pytest.mark.parametrize("device", [ON_GPU])
def test_a_capture_that_fails_is_a_warning_and_eager_updates(make_config, device, monkeypatch, caplog):
    compute = steps.generator_gradients

    def waits(state, inputs):
        gradients, metrics = compute(state, inputs)
        metrics["loss/generator"].item()  # which no graph can hold
        return gradients, metrics

    monkeypatch.setattr(steps, "generator_gradients", waits)
    _, eager = steps_of(make_config, device, "training.performance=eager")
    _, auto = steps_of(make_config, device, "training.performance=auto")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (metrics, _), (others, _) = eager(), auto()
            for name, value in metrics.items():
                torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4, msg=name)
    said = "without CUDA graphs: the generator's update cannot be captured"
    assert sum(said in record.getMessage() for record in caplog.records) == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_a_resumed_state_has_its_moments_on_the_device_and_continues_the_same(make_config, monkeypatch, device):
    exact_cudnn(monkeypatch)
    state, step = steps_of(make_config, device)
    step()
    buffer = io.BytesIO()
    torch.save(state.checkpoint(), buffer)
    buffer.seek(0)
    resumed, resumed_step = steps_of(make_config, device, taken=1)
    resumed.restore(torch.load(buffer, map_location="cpu", weights_only=True))
    tensors = list(zip(state_tensors(state), state_tensors(resumed), strict=True))
    assert all(a.device == b.device and a.stride() == b.stride() and torch.equal(a, b) for a, b in tensors)
    (metrics, gradients), (others, other_gradients) = step(), resumed_step()
    for name, value in metrics.items():
        torch.testing.assert_close(others[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert all(difference(other_gradients[name], value) <= 1e-5 for name, value in gradients.items())
    assert {t.device.type for o in resumed.optimizers.values() for m in adam_states(o) for t in m.values()} == {device}


@pytest.mark.parametrize("device", [ON_GPU])
def test_a_graph_can_hold_messages_of_nccl(device):
    """NCCL may launch nothing for a group of one; `test_a_process_for_each_gpu_trains_as_one` has more."""
    store = dist.HashStore()
    dist.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        x = torch.ones(1000, device=device)
        dist.all_reduce(x)  # sets NCCL up
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            dist.all_reduce(x.mul_(2))
        graph.replay()
        assert (x == 2).all()
        graph.reset()
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
@pytest.mark.parametrize("device", [ON_GPU])
@pytest.mark.timeout(200)
def test_a_process_for_each_gpu_trains_as_one(tmp_path, device):
    """All train on the same images, so the first losses agree."""
    found = []
    for ranks in (1, torch.cuda.device_count()):
        run = tmp_path / str(ranks)
        options = ["--device", device, "--training.batch_size", str(8 * torch.cuda.device_count())]
        process = torchrun(run, ranks, *options, "--model.generator.norm_sync", "true")
        try:
            said = process.communicate(timeout=90)[0]
        finally:
            process.terminate()  # torchrun's workers are in sessions of their own, and end with it
            process.wait(40)
        assert process.returncode == 0, said
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found.append([r for r in records if "loss/discriminator" in r])
    one, several = found
    assert len(one) == len(several) >= 12
    assert several[0]["loss/discriminator"] == pytest.approx(one[0]["loss/discriminator"], rel=1e-3)
    for name in ("gradient/discriminator", "gradient/generator"):  # norms after the processes have averaged them
        assert several[0][name] == pytest.approx(one[0][name], rel=1e-2)
    assert several[1]["loss/discriminator"] == pytest.approx(one[1]["loss/discriminator"], rel=1e-2)
