"""experiments/launch/ray-sweep.sh on three nodes of Ray's own test cluster, one of which is lost."""

import time
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest
import yaml

from sagan.ablation.csv_files import read_table
from sagan.ablation.executors import _follow
from sagan.runs.directory import newest_step
from sagan.runs.records import read_records
from tests.helpers.launching import start_script
from tests.helpers.pages import ROOT
from tests.helpers.tiny_commands import TINY_PLAN

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
STEPS, SEEDS = 40, [0, 1, 2]


@pytest.fixture
def cluster(monkeypatch):
    """Start a head and two more nodes, each with one core."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SLOWLY", "0.1")
    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**size)
        yield cluster
    finally:
        cluster.shutdown()


def training(run_dir):
    """Return the process that trains in a run directory, None if there is none."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "train" in words and f"runs/q/gpu/none/{run_dir.name}" in words:
            with suppress(psutil.Error):  # it has just ended
                if process.cwd() == str(run_dir.parents[4]):
                    return process
    return None


def lose_a_node(cluster, runs):
    """Kill all processes of a node that trains one of the runs and has saved it. Return that run's directory."""
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for run in runs:
            process = training(run) if (newest_step(run) or 0) > 2 else None
            ancestors = process.parents() if process else []
            for raylet in (a for a in ancestors if a.pid in raylets):
                for victim in (raylet, *ancestors[: ancestors.index(raylet)], process):
                    with suppress(psutil.NoSuchProcess):  # ended with its raylet
                        victim.kill()
                return run
        time.sleep(0.2)
    pytest.fail("no node trains")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_run_of_a_lost_node_moves_and_resumes(cluster, tmp_path):
    settings = {**TINY_PLAN["settings"], "training.steps": STEPS, "checkpoint.every": 1, "logging.every": 1}
    plan = {**TINY_PLAN, "seeds": SEEDS, "settings": settings}
    plan["evaluation"] = {**TINY_PLAN["evaluation"], "every": STEPS, "num_samples": 4}
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "plan.yaml").write_text(yaml.safe_dump(plan))
    variables = {"PLAN": "q/plan.yaml", "SIZE": "gpu", "JOBS": "1", "RAY_ADDRESS": cluster.address}
    source = ["--data.source", "tests.helpers.slow_images.Slow", "--data.num_classes", "0"]
    sweep = start_script("ray-sweep.sh", source, tmp_path, **variables)
    runs = [tmp_path / "runs" / "q" / "gpu" / "none" / f"seed-{seed}" for seed in SEEDS]
    moved = lose_a_node(cluster, runs)
    output, _ = sweep.communicate(timeout=900)
    assert sweep.returncode == 0, output
    rows = read_table(tmp_path / "q" / "gpu" / "results.csv")
    assert [row["seed"] for row in rows] == SEEDS, output
    assert all((row["status"], row["steps"]) == ("finished", STEPS) for row in rows), output
    assert "resuming from step" in (moved / "output.txt").read_text()
    for run in runs:
        steps = [r["step"] for r in read_records(run / "metrics.jsonl") if "loss/generator" in r]
        assert steps == [*range(1, STEPS + 1)]


def test_results_that_stay_on_another_machine_are_missed(tmp_path):
    job = SimpleNamespace(run_dir=tmp_path / "runs" / "none")
    ended = SimpleNamespace(wait=lambda tasks, timeout: (tasks, []), get=lambda task: None, exceptions=ray.exceptions)
    assert job in list(_follow(ended, {"task": job}, lambda: False))
    assert "its machine does not share this folder" in (job.run_dir / "failure.json").read_text()
