"""Runs under torchrun whose processes are killed, differ or wait: what is promised to somebody with a cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import psutil
import pytest
import torch
from torch.distributed.elastic.rendezvous import RendezvousParameters

from sagan.commands.app import main
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import TINY, tokens

STEPS = 12
OPTIONS = {
    **TINY,
    "model.generator.channels": 4,
    "model.discriminator.channels": 4,
    "data.num_classes": 0,
    "training.batch_size": 8,
    "training.steps": STEPS,
    "checkpoint.every": 2,
    "checkpoint.keep": 20,
    "logging.every": 1,
}


def torchrun(run_dir, ranks, *more, restarts=0):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    train = ["-m", "sagan", "train", "quickstart", *tokens({**OPTIONS, "run_dir": run_dir}), *more]
    return subprocess.Popen(
        [sys.executable, *launcher, "--max-restarts", str(restarts), *train],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"}
        | {"OMP_NUM_THREADS": "1"},
    )


def workers(launcher):
    """Return the processes of the ranks, by rank."""
    found = {}
    for child in psutil.Process(launcher.pid).children(recursive=True):
        if "LOCAL_RANK" in (environment := child.environ()):
            found[int(environment["LOCAL_RANK"])] = child
    return found


def steps_recorded(run_dir):
    """Return the records of every step without what depends on the machine's speed, the last of each step."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    loose = ("time", "speed/images_per_second", "memory/peak_gib")
    return {r["step"]: {k: v for k, v in r.items() if k not in loose} for r in records if "loss/generator" in r}


def assert_same_end(one, other, steps=STEPS):
    states = [load_checkpoint(checkpoint_path(run, steps)) for run in (one, other)]
    for part in ("generator", "discriminator", "generator_ema"):
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), f"{part}.{name}"
    assert steps_recorded(one) == steps_recorded(other)


def kill_one(tmp_path, ranks, victims):
    """Train with each of the victims killed once, one attempt after another; compare with an undisturbed run."""
    calm = torchrun(tmp_path / "calm", ranks)
    assert calm.wait(400) == 0, calm.stdout.read()
    disturbed = torchrun(tmp_path / "killed", ranks, restarts=len(victims))
    for count, victim in enumerate(victims):
        awaited = checkpoint_path(tmp_path / "killed", 4 + 4 * count)
        deadline = time.monotonic() + 300
        while not awaited.exists():
            assert disturbed.poll() is None and time.monotonic() < deadline, disturbed.communicate()[0]
            time.sleep(0.02)
        os.kill(workers(disturbed)[victim].pid, signal.SIGKILL)
    output, _ = disturbed.communicate(timeout=400)
    assert disturbed.returncode == 0, output
    assert output.count("resuming from step") == len(victims), output
    assert_same_end(tmp_path / "calm", tmp_path / "killed")


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_rank_of_two_costs_nothing(victim, tmp_path):
    kill_one(tmp_path, 2, [victim])


@pytest.mark.slow
@pytest.mark.parametrize("victims", [[0, 1], [3, 2]])
def test_two_kills_of_four_ranks_cost_nothing(victims, tmp_path):
    kill_one(tmp_path, 4, victims)


@pytest.mark.slow
def test_a_restart_of_a_diverged_run_ends_at_once(tmp_path):
    run = torchrun(tmp_path / "run", 2, "--optimizer.generator_lr", "1e30", restarts=2)
    output, _ = run.communicate(timeout=300)
    assert run.returncode != 0 and re.search(r"exitcode *: 3 ", output), output
    assert output.count("An earlier attempt recorded this") == 4, output  # two ranks in two restarts
    assert output.count(" images, ") == 1  # only the first attempt opened the data


def script(tmp_path, text, **options):
    """Run a program in two ranks, with a configuration as its argument."""
    options = {k: v for k, v in {**OPTIONS, **options}.items() if k != "device"}
    (tmp_path / "run.yaml").write_text("".join(f"{k}: {json.dumps(v, default=str)}\n" for k, v in options.items()))
    (tmp_path / "script.py").write_text(text)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, tmp_path / "script.py", tmp_path / "run.yaml"]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200)


DIFFERENT = """
import os, sys
from dataclasses import replace
import torch
from sagan.presets import load_config
from sagan.training import loop

config = load_config(sys.argv[1])
if os.environ["RANK"] == "1":
    config = CHANGED
try:
    loop.train(config)
except Exception as error:
    print(f"rank {os.environ['RANK']} said {type(error).__name__}: {error}", flush=True)
"""


FULL_DISK = """
import errno, os, sys
from sagan.presets import load_config
from sagan.runtime import files
from sagan.training import loop

replace = files.os.replace

def full(source, target):
    if str(target).endswith("step-00000004.pt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    replace(source, target)

files.os.replace = full
try:
    loop.train(load_config(sys.argv[1]))
except Exception as error:
    print(f"rank {os.environ['RANK']} said {type(error).__name__}: {error}", flush=True)
    raise
"""


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_stops_all_ranks_before_the_next_one(tmp_path):
    done = script(tmp_path, FULL_DISK, run_dir=tmp_path / "run")
    assert done.returncode != 0 and "rank 0 said UserError: " in done.stdout, done.stdout + done.stderr
    assert "step-00000004.pt: cannot be written: [Errno 28] No space left on device" in done.stdout
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step-00000002.pt"]
    assert max(steps_recorded(tmp_path / "run")) == 6


CHANGES = {
    "an option": (
        "replace(config, optimizer=replace(config.optimizer, beta2=0.5))",
        "optimizer.beta2 0.5, but rank 0 has 0.9",
    ),
    "images": ("replace(config, data=replace(config.data, path='fewer'))", "images 23, but rank 0 has 24"),
    "class names": (
        "replace(config, data=replace(config.data, path='renamed'))",
        "class_names [a, b, d], but rank 0 has [a, b, c]",
    ),
    "a checkpoint's option": (
        "replace(config, training=replace(config.training, batch_size=4))",
        "training.batch_size 4, but rank 0 has 8",
    ),
}


@pytest.mark.parametrize(
    "change", [next(iter(CHANGES)), *(pytest.param(c, marks=pytest.mark.slow) for c in list(CHANGES)[1:])]
)
def test_a_rank_that_differs_is_named_with_both_values(change, tmp_path, image_folder):
    for name in ("whole", "fewer", "renamed"):
        shutil.copytree(image_folder, tmp_path / name)
    (tmp_path / "fewer" / "a" / "00.png").unlink()
    (tmp_path / "renamed" / "c").rename(tmp_path / "renamed" / "d")
    data = {"data.source": "folder", "data.path": "whole", "data.num_classes": 3, "run_dir": tmp_path / "run"}
    if "checkpoint" in change:  # the run there has the option of rank 0
        assert main(["train", "quickstart", *tokens({**OPTIONS, **data, "data.path": tmp_path / "whole"})]) == 0
        data["training.steps"] = STEPS + 2
    changed, difference = CHANGES[change]
    done = script(tmp_path, DIFFERENT.replace("CHANGED", changed), **data)
    for rank in (0, 1):
        words = f"rank {rank} said ConfigError: rank 1: {difference}; all processes of a run need the same"
        assert words in done.stdout, done.stdout + done.stderr


OWN_DISKS = """
import os, sys
from sagan.presets import load_config
from sagan.runs import evaluation
from sagan.training import loop
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import cheap_extractor

config = load_config(sys.argv[1])
if os.environ["RANK"] == "1":
    os.chdir("other")  # where the same paths lead elsewhere
loop.train(config)
evaluation.build_extractor = cheap_extractor
if scores := evaluation.evaluate_run(config.run_dir):
    print(scores.report())
"""


@pytest.mark.slow
def test_each_machine_may_have_a_disk_of_its_own(tmp_path, image_folder, monkeypatch):
    """Rank 1 has images of its own and no run: rank 0 sends it the checkpoint, and the weights to start from."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for place in ("images", "other/images"):
        shutil.copytree(image_folder, tmp_path / place)
    data = {"data.source": "folder", "data.path": "images", "data.num_classes": 3, "evaluation.num_samples": 100}
    for steps in (4, 8):
        done = script(tmp_path, OWN_DISKS, **data, **{"run_dir": "run", "training.steps": steps})
        assert done.returncode == 0 and f"\nstep: {steps}\n" in done.stdout, done.stdout + done.stderr
    assert script(tmp_path, OWN_DISKS, **data, **{"run_dir": "whole", "training.steps": 8}).returncode == 0
    assert_same_end(tmp_path / "run", tmp_path / "whole", 8)
    tuned = {"run_dir": "tuned", "training.steps": 2, "training.init_from": "run"}
    done = script(tmp_path, OWN_DISKS, **data, **tuned)
    assert done.returncode == 0 and "weights from run, step 8" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "other/run").exists()


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (["-m", "sagan", "train"], None, "1"),
        (["--no-python", "/opt/bin/sagan", "train"], None, "1"),
        (["-m", "sagan", "train"], "0", "0"),  # as the user has it
        (["train.py", "--name", "sagan-2"], None, None),
    ],
)
def test_torchrun_shares_no_store_if_it_starts_sagan(words, before, after, monkeypatch):
    """torchrun loads the entry point itself, in the process that reads the variable."""
    (found,) = entry_points(group="torchrun.handlers", name="sagan")
    monkeypatch.setattr(sys, "argv", ["torchrun", *words])
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", before or "to be restored")
    if not before:
        monkeypatch.delenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE")
    create = found.load()()
    assert os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") == after
    handler = create(RendezvousParameters("c10d", "localhost:0", "run", 1, 1, is_host="true"))
    assert handler.get_backend() == "c10d" and handler.use_agent_store == (after != "1")
    handler.shutdown()
