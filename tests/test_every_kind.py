"""Every attention system in both networks, through the real training run of two presets."""

import warnings

import pytest

from sagan.attention import KINDS
from sagan.presets import load_config
from sagan.runs.records import read_records
from sagan.training.loop import train

# The presets as they are, but for data that would be downloaded, and a batch that would take a CPU an hour.
CHANGES = {
    "quickstart": [],
    "cifar10": ["data.source=shapes", "evaluation.every=0", "training.batch_size=8"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", CHANGES)
def test_a_hundred_steps_with_every_kind(preset, kind, tmp_path):
    """No warning, from Python or in the log, and no number that is none: the run itself stops at the first."""
    config = load_config(
        preset,
        [
            *CHANGES[preset],
            f"run_dir={tmp_path}",
            "training.steps=100",
            "logging.every=10",
            f"model.generator.attention.kind={kind}",
            f"model.discriminator.attention.kind={kind}",
        ],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(config)
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl") if "loss/generator" in r][-1] == 100
    assert "warning" not in (tmp_path / "log.txt").read_text()
