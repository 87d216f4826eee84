"""A run that resumes with another number of processes, as torchrun starts them, against one that never changes it."""

import os
import subprocess
import sys

import pytest
import torch

from sagan.config import to_yaml
from sagan.runs.records import read_records
from tests.helpers import rank_stages
from tests.helpers.pages import ROOT
from tests.helpers.rank_stages import stage
from tests.test_distributed import STEPS

PROBED = 2  # the step from whose checkpoint updates and scores are compared


def stage_of_ranks(config, ranks, last, folder):
    """Return what `stage` returns in processes of torchrun."""
    file, seen = folder / f"{ranks}.yaml", folder / f"{ranks}.pt"
    file.write_text(to_yaml(config))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    done = subprocess.run(
        [*launcher, rank_stages.__file__, file, str(last), str(PROBED), seen],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SAGAN_CACHE": str(folder / f"cache-{ranks}")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ranks} processes on cpu" in done.stdout
    return torch.load(seen)


def losses(run_dir):
    """Return the records of the steps, without what depends on the machine's speed."""
    records = [r for r in read_records(run_dir / "metrics.jsonl") if "loss/generator" in r]
    parts = ("step", "images_seen", "loss/", "logits/", "gradient/")
    return [{name: value for name, value in r.items() if name.startswith(parts)} for r in records]


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(1, 2, 1), (1, 2, 4, 1)])
def test_the_number_of_processes_may_change_at_each_resume(counts, make_config, tmp_path, monkeypatch):
    """Neither the data and draws of the run depend on it, nor an update from one state, nor the scores of weights."""
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    options = (
        *STEPS,
        "checkpoint.every=2",
        "checkpoint.keep=20",
        "evaluation.num_samples=30",
        "evaluation.num_real=20",
        "evaluation.batch_size=4",  # so that each process measures some
    )
    constant = make_config(*options, f"run_dir={tmp_path / 'constant'}")
    changing = make_config(*options, f"run_dir={tmp_path / 'changing'}")
    last = 2 * len(counts)
    alone = stage(constant, last, PROBED)
    parts = [
        stage(changing, step, PROBED) if ranks == 1 else stage_of_ranks(changing, ranks, step, tmp_path)
        for ranks, step in zip(counts, range(2, last + 1, 2), strict=True)
    ]
    inputs = [update for part in parts for update in part["inputs"]]
    assert len(inputs) == len(alone["inputs"]) == last * 3  # two updates of D in a step, and one of G
    for one, other in zip(alone["inputs"], inputs, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    for part in parts:
        assert part["scores"] == alone["scores"] and len(alone["scores"]) >= 7
        for name in ("loss/discriminator", "loss/generator", "logits/real", "logits/fake"):
            assert float(part[name]) == pytest.approx(float(alone[name]), rel=1e-5), name
        for name in ("discriminator_gradients", "generator_gradients"):
            assert (part[name] - alone[name]).norm() <= 1e-5 * alone[name].norm(), name
    for a, b in zip(losses(tmp_path / "constant"), losses(tmp_path / "changing"), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-5)
