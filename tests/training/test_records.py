"""metrics.jsonl, log.txt and TensorBoard's events, and how a resumed run continues them."""

import errno
import json
import logging
import tracemalloc

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext

from sagan.config import UserError
from sagan.runs.best import best_checkpoint
from sagan.runs.directory import checkpoint_path, prepare_run_dir
from sagan.runs.log import RunLog
from sagan.runs.records import (
    append_evaluation,
    evaluated,
    forget_after,
    last_recorded_step,
    read_evaluations,
    read_records,
)
from tests.helpers.providers import loaded


def test_records_after_the_checkpoint_and_a_torn_line_are_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": s, "loss": 0.1 + s / 3}) for s in (1, 2, 2, 3, 4)]
    file.write_text("\n".join(lines) + '\n{"step": 5, "lo')
    assert [r["step"] for r in read_records(file)] == [1, 2, 2, 3, 4]
    forget_after(file, 2)
    assert file.read_text() == "".join(f"{line}\n" for line in lines[:3])  # to the last digit
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_looking_for_an_evaluation_takes_no_more_memory_after_a_longer_run(tmp_path):
    def peak(records):
        run_dir = tmp_path / f"{records}"
        run_dir.mkdir()
        more = ["", ', "evaluation": {"protocol": {}}']
        lines = [f'{{"step": {i}, "padding": "{"x" * 1000}"{more[i % 2]}}}\n' for i in range(records)]
        (run_dir / "metrics.jsonl").write_text("".join(lines))
        tracemalloc.start()
        try:
            assert not evaluated(run_dir, records - 2)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2_000) < 1.2 * peak(20)


def test_the_newest_step_is_found_behind_a_long_record(tmp_path):
    scores = {f"intra_fid/class {i}": 1 / 3 for i in range(9000)}
    lines = [json.dumps({"step": 1}), json.dumps({"step": 7, **scores})]
    for torn in ("", '{"step": 9, "lo'):
        (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, torn]))
        assert last_recorded_step(tmp_path) == 7
    (tmp_path / "metrics.jsonl").write_text("x" * 100_000)
    assert last_recorded_step(tmp_path) == 0


def test_no_file_means_no_records(tmp_path):
    forget_after(tmp_path / "metrics.jsonl", 3)
    assert read_records(tmp_path / "metrics.jsonl") == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("before", [b"", b'{"step": 1}\n', b'{"step": 1}\n{"st'])
def test_an_appended_record_is_a_line_of_its_own(tmp_path, before):
    (tmp_path / "metrics.jsonl").write_bytes(before)
    append_evaluation(tmp_path, {"step": 2, "evaluation": {"protocol": {}}}, by="sagan evaluate")
    append_evaluation(tmp_path, {"step": 3, "evaluation": {"protocol": {}}}, by="sagan evaluate")
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")] == ([1] if before else []) + [2, 3]


def test_lines_that_are_no_records_are_ignored_and_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        '7\n[]\nnull\n"x"\n{}\n{"step": "x"}\n{"step": true}\n{"step": -1}\n{"step": 1000000000001}\n'
        + "[" * 5000
        + '\n{"step": 1}\n'
    )
    assert read_records(file) == [{"step": 1}] and read_evaluations(file) == {}
    assert last_recorded_step(tmp_path) == 1
    forget_after(file, 1)
    assert file.read_text() == '{"step": 1}\n'


def test_only_the_runs_own_evaluations_are_its_evaluations(tmp_path):
    file, protocol = tmp_path / "metrics.jsonl", {"protocol": {"n_fake": 5}}
    append_evaluation(tmp_path, {"step": 2, "fid": 1.0, "evaluation": protocol}, by="sagan evaluate")
    assert read_evaluations(file) == {}
    with open(file, "a") as records:
        for fid in (3.0, 2.0):  # the second as older versions added it
            records.write(json.dumps({"step": 2, "fid": fid, "evaluation": protocol}) + "\n")
        records.write('{"step": 3, "evaluation": 3}\n{"step": 3, "evaluation": {"protocol": null}}\n')
    assert read_evaluations(file) == {2: {"step": 2, "fid": 3.0, "evaluation": protocol}}


@pytest.mark.parametrize(
    "numbers",
    ['"step": 2, "fid": 1%s' % ("0" * 400), '"step": 1%s, "fid": 1' % ("0" * 300), '"step": 2, "fid": NaN'],
    ids=["distance", "step", "no distance"],
)
def test_a_number_that_no_run_writes_makes_no_checkpoint_the_best(tmp_path, numbers):
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2):
        checkpoint_path(tmp_path, step).touch()
    rest = '"evaluation": {"protocol": {}}'
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "fid": 3.0, {rest}}}\n{{{numbers}, {rest}}}\n')
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)
    assert last_recorded_step(tmp_path) in (1, 2)


def test_a_record_that_cannot_be_appended_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(UserError, match="nowhere/metrics.jsonl: cannot be written"):
        append_evaluation(tmp_path / "nowhere", {"step": 1, "evaluation": {}}, by="sagan evaluate")


def test_lines_are_printed_and_logged(tmp_path, capsys):
    with RunLog(tmp_path) as log:
        log.say("first", "second – ü")
        assert "first" in (tmp_path / "log.txt").read_text()  # immediately, not at the end
    assert capsys.readouterr().out == "first\nsecond – ü\n"
    stamped = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ", 1)[1] for line in stamped] == ["first", "second – ü"]


def test_warnings_of_the_program_are_logged_while_the_log_is_open(tmp_path, capsys):
    with RunLog(tmp_path):
        logging.getLogger("sagan.data.dataset").warning("left out: %s", "cats/x.png: truncated")
    logging.getLogger("sagan.data.dataset").warning("afterwards")
    assert "warning: left out: cats/x.png: truncated" in capsys.readouterr().out
    text = (tmp_path / "log.txt").read_text()
    assert "warning: left out: cats/x.png: truncated" in text and "afterwards" not in text


def test_processes_other_than_the_main_one_write_nothing(tmp_path, capsys):
    with RunLog(tmp_path, active=False) as log:
        log.begin(0)
        log.say("hello")
        log.record(1, {"loss": 1.0})
        log.image("samples/ema", torch.zeros(3, 4, 4, dtype=torch.uint8), 1)
        log.blobs("maps", [b"x"], 1, "plugin")
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def scalars(run_dir, tag):
    """Return what TensorBoard shows under a tag, and its log by another reader."""
    board = EventAccumulator(str(run_dir), size_guidance={"tensors": 0, "images": 0})
    board.Reload()
    with loaded("python", run_dir) as data:
        series = data.read_scalars(RequestContext(), experiment_id="", plugin_name="scalars", downsample=100)
    return [(point.step, round(point.value, 3)) for point in series["."][tag]], board


@pytest.mark.parametrize("kept", [0, 2])
def test_tensorboard_drops_the_steps_that_a_resumed_run_repeats(tmp_path, kept):
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with RunLog(tmp_path) as log:
        log.begin(0)
        log.image("samples/real", image, 0)
        for step in range(1, 6):
            log.record(step, {"loss": step / 10})
    with RunLog(tmp_path) as log:
        log.begin(kept)
        if kept == 0:
            log.image("samples/real", image, 0)
        log.record(kept + 1, {"loss": 0.9})
    values, board = scalars(tmp_path, "loss")
    assert values == [(s, s / 10) for s in range(1, kept + 1)] + [(kept + 1, 0.9)]
    assert [e.step for e in board.Images("samples/real")] == [0]
    assert [(r["step"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")] == values


def test_event_files_are_read_in_the_order_in_which_they_were_written(tmp_path, monkeypatch):
    for now in (2000.0, 2000.5, 1000.0):  # within a second, and after the clock was set back
        monkeypatch.setattr("sagan.runs.board.time.time", lambda now=now: now)
        with RunLog(tmp_path) as log:
            log.begin(0)
    stamps = sorted(p.name.split(".")[3] for p in tmp_path.glob("events.*"))
    assert stamps == ["0000002000", "0000002001", "0000002002"]


def test_a_full_disk_is_an_error_that_names_the_run(tmp_path):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = close = write

        def __init__(self):
            self.close = lambda: None

    with RunLog(tmp_path) as log:
        log.begin(0)
        log.metrics.close()
        log.metrics = Full()
        with pytest.raises(UserError, match=f"{tmp_path}: the log cannot be written: .*No space left.*no checkpoint"):
            log.record(1, {"loss": 1.0})
        checkpoint_path(tmp_path, 1).parent.mkdir()
        checkpoint_path(tmp_path, 1).touch()
        with pytest.raises(UserError, match=r"Checkpoints are untouched\.$"):
            log.record(1, {"loss": 1.0})


def test_a_run_directory_that_is_a_file_or_inside_one_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"run_dir {run_dir}: .*expected a folder"):
            prepare_run_dir(run_dir)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    with pytest.raises(UserError, match="checkpoints is a file or inside a file"):
        prepare_run_dir(tmp_path / "run")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.runs.directory.os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match="no write permission in"):
        prepare_run_dir(tmp_path / "run")


def test_a_folder_that_cannot_be_created_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(
        UserError, match=f"run_dir {tmp_path / 'run'}: the folder cannot be created: .*Permission denied"
    ):
        prepare_run_dir(tmp_path / "run")


def test_a_directory_has_one_writer_at_a_time(tmp_path):
    with RunLog(tmp_path) as first:
        with pytest.raises(UserError, match=f"run_dir {tmp_path}: another process is training there"):
            RunLog(tmp_path).__enter__()
        RunLog(tmp_path, active=False).__enter__()  # the other processes of the same run
        first.say("still here")
    with RunLog(tmp_path) as second:
        second.say("my turn")
    said = [line.split("  ")[1] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert said == ["still here", "my turn"]
