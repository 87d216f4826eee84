"""The scripts of experiments/launch, run on one machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import read_records
from tests.helpers.launching import LAUNCH, start_script
from tests.helpers.pages import ROOT
from tests.helpers.tiny_commands import TINY_PLAN
from tests.helpers.tiny_runs import TINY, tokens

OPTIONS = tokens({**TINY, "data.num_classes": 0, "logging.images_every": 0, "logging.attention_every": 0})


@pytest.fixture
def launch(tmp_path):
    """launch(script, arguments, variables): a process in an empty folder that finds `sagan` and `torchrun`."""
    return lambda script, arguments, **variables: start_script(script, arguments, tmp_path, **variables)


def assert_ended_well(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def a_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_on_one_machine(launch, tmp_path):
    settings = {"PRESET": "quickstart", "PROCESSES": "1", "NODES": "2", "MASTER": f"127.0.0.1:{a_free_port()}"}
    nodes = [launch("several-nodes.sh", [*OPTIONS, "--run_dir", "run"], **settings) for _ in range(2)]
    for node in nodes:
        assert_ended_well(node)
    assert checkpoint_path(tmp_path / "run", 2).is_file()


@pytest.mark.slow
def test_one_machine(launch, tmp_path):
    options = [*OPTIONS, "--run_dir", "run"]
    assert_ended_well(launch("single-node.sh", options, PRESET="quickstart", PROCESSES="2"))
    assert checkpoint_path(tmp_path / "run", 2).is_file()


@pytest.mark.slow
def test_a_run_on_slurm(launch, tmp_path):
    job = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7"}
    options = [*OPTIONS, "--run_dir", "run"]
    assert_ended_well(launch("slurm-run.sh", options, PRESET="quickstart", PROCESSES="2", **job))
    assert checkpoint_path(tmp_path / "run", 2).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM], ids=["time is over", "cancelled"])
def test_a_run_that_slurm_stops_saves_itself_and_queues_again_unless_it_is_cancelled(launch, tmp_path, sent):
    job = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7"}
    options = [*OPTIONS, "--run_dir", "run", "--training.steps", "1000000", "--logging.every", "1"]
    process, records = launch("slurm-run.sh", options, PRESET="quickstart", PROCESSES="2", **job), tmp_path / "run"
    deadline = time.monotonic() + 120
    while newest_record(records) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    requeued = tmp_path / "requeued"
    assert (requeued.read_text() if requeued.exists() else "") == ("7\n" if sent == signal.SIGUSR1 else ""), output
    assert process.returncode == (0 if sent == signal.SIGUSR1 else 143)
    (saved,) = checkpoints(records)
    assert checkpoint_path(records, newest_record(records)) == saved


def newest_record(run_dir):
    """Return the step of the newest record, 0 if there is none."""
    return max((r["step"] for r in read_records(run_dir / "metrics.jsonl")), default=0)


@pytest.mark.slow
def test_a_sweep_on_slurm(launch, tmp_path):
    plan = {**TINY_PLAN, "seeds": [0, 1], "evaluation": {**TINY_PLAN["evaluation"], "num_samples": 4}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert_ended_well(launch("slurm-sweep.sh", [], PLAN="plan.yaml", SIZE="gpu", SLURM_ARRAY_TASK_ID="1"))
    rows = (tmp_path / "gpu" / "results.csv").read_text().splitlines()
    assert len(rows) == 2 and rows[1].startswith("none,1,2,")


@pytest.mark.slow
def test_cifar10_is_trained_and_scored_in_pieces(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    options = {
        **TINY,
        "data.source": "shapes",
        "data.path": "null",
        "evaluation.num_samples": 8,
        "evaluation.num_real": 8,
    }
    variables = {
        "SAGAN": f"{sys.executable} -m sagan",
        "PRESETS": "cifar10",
        "ARGUMENTS": " ".join(tokens(options)),
        "NUMBER": "8",
        "EXTRACTORS": "efficientnet-lite0",
    }
    for minutes, code in (("0", 75), ("5", 0), ("5", 0)):  # no time, all of it, nothing left to do
        env = {**os.environ, **variables, "MINUTES": minutes, "PYTHONPATH": str(ROOT)}
        script = ["sh", ROOT / "experiments/gpu/cifar10.sh"]
        done = subprocess.run(script, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert "efficientnet-lite0" in (tmp_path / "runs/cifar10/scores-efficientnet-lite0.txt").read_text()
    assert checkpoint_path(tmp_path / "runs/cifar10", 2).is_file()


SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", sorted(LAUNCH.parent.glob("*/*.sh")), ids=lambda path: path.name)
def test_the_shell_finds_nothing_wrong(script: Path):
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
