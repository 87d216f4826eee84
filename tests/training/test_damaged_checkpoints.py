"""A newest checkpoint that cannot be read: it is set aside, and the run continues from the newest good one."""

import errno
import os
import shutil

import pytest
import torch

from sagan.api import train
from sagan.commands.app import main
from sagan.config import DamagedError, UserError
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path
from sagan.runs.records import read_records


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"  # the default of `make_config`


def folder_of_that_name(path):
    path.unlink()
    path.mkdir()


def dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere.pt")


DAMAGE = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "other content": lambda path: torch.save({"model": torch.zeros(1)}, path),
    "a folder": folder_of_that_name,
    "a dangling link": dangling_link,
}


def test_damaged_checkpoints_are_set_aside_and_the_newest_good_one_is_resumed(make_config, tmp_path, capsys):
    options = ("training.steps=3", "checkpoint.every=1", "logging.every=1")
    whole = train(make_config(*options))
    expected = load_checkpoint(checkpoint_path(whole, 3))["generator_ema"]
    steps = [r["step"] for r in read_records(whole / "metrics.jsonl")]
    for name, damage in DAMAGE.items():
        run_dir = shutil.copytree(whole, tmp_path / name)
        newest = checkpoint_path(run_dir, 3)
        damage(newest)
        capsys.readouterr()
        assert main(["sample", str(run_dir)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(newest) in error and "--checkpoint step-00000002.pt" in error

        (run_dir / "checkpoints" / "step-00000003.pt.damaged").touch()  # of an earlier time
        train(make_config(*options, f"run_dir={run_dir}"))
        said = capsys.readouterr().out
        assert "resuming from step 2" in said and str(newest) in said
        assert "renamed to step-00000003.pt.damaged-2. The run continues from step 2" in said
        assert os.path.lexists(run_dir / "checkpoints" / "step-00000003.pt.damaged-2")
        found = load_checkpoint(checkpoint_path(run_dir, 3))["generator_ema"]
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        assert [r["step"] for r in read_records(run_dir / "metrics.jsonl")] == steps


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_again(make_config, run_dir):
    train(make_config("training.steps=2", "checkpoint.every=1"))
    for step in (1, 2):
        checkpoint_path(run_dir, step).write_bytes(b"nonsense")
    with pytest.raises(DamagedError, match=rf"step-00000002.pt: cannot .*no checkpoint of {run_dir} can be read"):
        train(make_config("training.steps=3"))
    assert checkpoint_path(run_dir, 2).read_bytes() == b"nonsense"


def test_a_checkpoint_that_may_be_whole_is_not_set_aside(make_config, run_dir, monkeypatch):
    train(make_config("training.steps=2", "checkpoint.every=1"))

    def refuse(path, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("sagan.runs.checkpoints.torch.load", refuse)
    with pytest.raises(UserError, match=r"step-00000002.pt: cannot be read: .*Input/output error"):
        train(make_config("training.steps=3"))
    assert checkpoint_path(run_dir, 2).is_file()
