"""The trace of `sagan train --profile`."""

import json

import pytest

from sagan.commands.app import main
from sagan.runs.directory import checkpoint_path
from tests.helpers.tiny_runs import TINY, tokens


def test_a_trace_holds_the_operations_of_as_many_steps(tmp_path, image_folder, capsys):
    options = {**TINY, "data.source": "folder", "data.path": image_folder, "run_dir": tmp_path / "run"}
    options |= {"training.steps": 7, "logging.attention_every": 0, "logging.images_every": 0}
    assert main(["train", *tokens(options), "--profile", "2"]) == 0
    (trace,) = (tmp_path / "run" / "profile").iterdir()
    assert trace.name == "step-00000005.pt.trace.json" and str(trace) in capsys.readouterr().out
    names = [event["name"] for event in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("aten::_fused_adam_") == 2 * 2  # of D and of G, in each step
    assert "aten::convolution_backward" in names


def test_a_run_that_ends_earlier_has_a_shorter_trace(tmp_path, image_folder):
    options = {**TINY, "data.source": "folder", "data.path": image_folder, "run_dir": tmp_path / "run"}
    assert main(["train", *tokens({**options, "training.steps": 4}), "--profile", "20"]) == 0
    assert [p.name for p in (tmp_path / "run" / "profile").iterdir()] == ["step-00000004.pt.trace.json"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_without_a_step_to_trace_says_so(tmp_path, image_folder, capsys, steps):
    options = {**TINY, "data.source": "folder", "data.path": image_folder, "run_dir": tmp_path / "run"}
    assert main(["train", *tokens({**options, "training.steps": steps}), "--profile", "2"]) == 0
    assert "no trace: it starts with step 4" in capsys.readouterr().out
    assert not (tmp_path / "run" / "profile").exists() and checkpoint_path(tmp_path / "run", steps).is_file()
