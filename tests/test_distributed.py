"""Two processes that train together, over gloo, against one that trains alone."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from sagan.config import ConfigError, to_yaml
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import read_records
from sagan.runtime import distributed
from sagan.runtime.device import activation_dtype, choose_device
from sagan.runtime.distributed import all_reduce_sum, any_process, average, rank, world_size
from sagan.training.loop import train

PROCESS = """
import copy, os, signal, sys
import torch, torch.distributed as dist
from dataclasses import replace
from sagan.runtime.distributed import all_reduce_sum, any_process, average
from sagan.models.image_sampler import set_standing_statistics
from sagan.presets import load_config
from sagan.runs.networks import load_generator
from sagan.training import loop, performance, steps

dist.init_process_group("gloo")
rank = dist.get_rank()

x = torch.tensor([1.0 + rank, 2.0], requires_grad=True)
(all_reduce_sum(x) * torch.tensor([3.0, 10.0 * (rank + 1)])).sum().backward()
assert x.grad.tolist() == [6.0, 30.0], x.grad  # each rank's loss depends on this x
mean = [torch.tensor([float(rank)]), torch.tensor(2.0 * rank)]
average(mean)
assert [m.item() for m in mean] == [0.5, 1.0]
assert any_process(rank == 1) and not any_process(False)

config = load_config(sys.argv[1])
loop.train(config)

dist.barrier()  # process 0 may still be saving
generator = load_generator(config.run_dir)
alone = copy.deepcopy(generator)
set_standing_statistics(generator, batches=2, batch_size=4, seed=0)
for norm in alone.modules():
    norm.sync = False
set_standing_statistics(alone, batches=2, batch_size=4, seed=0)
for (name, one), other in zip(alone.state_dict().items(), generator.state_dict().values(), strict=True):
    assert torch.equal(one, other), name  # statistics do not depend on the number of processes

step = steps.generator_step
def signalled(state, inputs):
    if rank == 1 and state.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)  # this process alone is told to stop
    return step(state, inputs)
performance.EAGER = steps.EAGER._replace(generator=signalled)
loop.train(replace(config, training=replace(config.training, steps=100)))
dist.barrier()  # a peer that leaves early may abort the other
dist.destroy_process_group()
"""

STEPS = (
    "training.steps=2",
    "training.batch_size=8",
    "training.d_steps=2",
    "model.generator.norm_sync=true",
    "logging.every=1",
    "data.flip=true",
    "training.diffaugment=[color,translation]",
    # Adam's first steps are the signs of gradients, even of those that are rounding errors: damp them.
    "optimizer.eps=1e-3",
)


def run_processes(config, tmp_path, count=2, script=PROCESS):
    file = tmp_path / "two.yaml"
    file.write_text(to_yaml(config))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file)],
            env={**os.environ, **known, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(count)
    ]
    try:
        results = [p.communicate(timeout=240) for p in processes]
    finally:
        for p in processes:
            p.kill()
    for p, (_, err) in zip(processes, results, strict=True):
        assert p.returncode == 0, err
    return [out for out, _ in results]


def test_two_processes_equal_one_and_stop_together(make_config, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    out = run_processes(make_config(*STEPS, f"run_dir={together}"), tmp_path)
    train(make_config(*STEPS, f"run_dir={alone}"))

    one, two = (load_checkpoint(checkpoint_path(d, 2)) for d in (alone, together))
    start = load_checkpoint(
        checkpoint_path(train(make_config(*STEPS, "training.steps=1", f"run_dir={tmp_path / 's'}")), 1)
    )
    for network in ("generator", "discriminator", "generator_ema"):
        for name, value in one[network].items():
            torch.testing.assert_close(two[network][name], value, rtol=1e-3, atol=2e-6, msg=f"{network}.{name}")
    moved = (one["generator"]["to_image.weight"] - start["generator"]["to_image.weight"]).abs().max()
    assert moved > 1e-5  # more than the tolerance
    records = [[r for r in read_records(d / "metrics.jsonl") if r["step"] <= 2] for d in (alone, together)]
    for a, b in zip(*records, strict=True):
        for name in a:
            if name.startswith(("loss/", "logits/", "accuracy/", "gradient/", "singular_value/")):
                assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-5), name

    # Process 1 was told to stop in its fourth step; both finished it, and process 0 saved.
    assert checkpoints(together)[-1] == checkpoint_path(together, 4)
    assert "2 processes on cpu" in out[0] and "stopped after step 4 of 100" in out[0]
    assert out[1] == ""  # one process speaks


RESUMED = """
import sys
from dataclasses import replace
import torch.distributed as dist
from sagan.presets import load_config
from sagan.training.loop import train

dist.init_process_group("gloo")
whole = load_config(sys.argv[1])
train(whole)
for steps in (2, 4):
    train(replace(whole, run_dir=whole.run_dir + "-parts", training=replace(whole.training, steps=steps)))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_four_processes_resume_bit_for_bit(make_config, tmp_path):
    changes = ("training.steps=4", "checkpoint.every=2", "training.micro_batches=2", f"run_dir={tmp_path / 'run'}")
    run_processes(make_config(*STEPS, *changes), tmp_path, count=4, script=RESUMED)
    one, two = (load_checkpoint(checkpoint_path(tmp_path / name, 4)) for name in ("run", "run-parts"))
    for part in ("generator", "discriminator", "generator_ema"):
        assert all(torch.equal(value, two[part][name]) for name, value in one[part].items()), part
    for part in ("generator_optimizer", "discriminator_optimizer"):
        for i, entry in one[part]["state"].items():
            assert all(torch.equal(value, two[part]["state"][i][name]) for name, value in entry.items()), (part, i)


def test_one_process_needs_no_group():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    assert all_reduce_sum(x) is x and (rank(), world_size()) == (0, 1)
    average([x])
    assert x.tolist() == [1, 2] and any_process(True) and not any_process(False)


def test_devices_that_do_not_exist_are_refused(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    cases = {"gpu": "expected auto, cpu, cuda", "cuda:99": "requested CUDA device 99, but found", "xpu": "not usable"}
    for name, words in cases.items():
        with pytest.raises(ConfigError, match=f"device {name}: .*{words}"):
            choose_device(name)


def test_auto_takes_this_processes_gpu_or_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_device("cuda:0") == torch.device("cuda:0")  # other programs set that variable, too
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="device cuda:0: torchrun gives each process a GPU of its own"):
        choose_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as SLURM shows each task its own
    assert choose_device("cuda") == torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="requested CUDA device 2, but found 2"):
        choose_device("auto")


@pytest.mark.parametrize("vendor", ["Intel", "AMD"])
@pytest.mark.parametrize("instructions", ["none", "AVX-512 BF16", "AMX"])
def test_bf16_is_the_default_only_where_it_is_faster(monkeypatch, caplog, vendor, instructions):
    monkeypatch.setattr("sagan.runtime.device.device_name", lambda device: f"{vendor} processor")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions != "none")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: instructions == "AMX")
    cpu = torch.device("cpu")
    faster = instructions == "AMX" or (instructions == "AVX-512 BF16" and vendor == "AMD")
    assert activation_dtype("auto", cpu) == (torch.bfloat16 if faster else torch.float32)
    assert activation_dtype("float32", cpu) == torch.float32 and not caplog.records
    assert activation_dtype("bf16", cpu) == torch.bfloat16
    assert bool(caplog.records) == (instructions == "none")


@pytest.mark.parametrize(
    ("rank", "machine", "local", "awaited", "done"),
    [(0, 0, 0, None, "0"), (1, 0, 1, ("0", 0), None), (2, 1, 0, ("0", 0), "1"), (3, 1, 1, ("1", 2), None)],
)
def test_one_process_of_each_machine_goes_first(rank, machine, local, awaited, done, monkeypatch):
    """Four ranks on two machines: rank 0, then the first of the other machine, then their neighbours."""
    waits, known = [], {}

    class Store:
        def check(self, keys):
            return keys in waits or bool(waits.append(keys))

        def set(self, key, value):
            known[key] = value

    def wait_until(arrived, who, whom):
        arrived()
        waits.append((who, whom()))

    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "_store", Store)
    monkeypatch.setattr(distributed, "wait_until", wait_until)
    monkeypatch.setattr(distributed, "meet", lambda what: None)
    monkeypatch.setenv("GROUP_RANK", str(machine))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with distributed.main_first("downloads"):
        assert not known
    assert [key.rpartition("/")[2] for key in known] == ([] if done is None else [done])
    if awaited is None:
        assert waits == []
    else:
        (keys, words), (where, first) = waits, awaited
        assert keys[0].endswith(f"/{where}") and words == (f"rank {rank}", f"rank {first}, which downloads")
