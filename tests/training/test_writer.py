"""Checkpoints that a thread writes while training continues: never two at once, and no failure is lost."""

import errno
import threading
import time

import pytest
import torch

from sagan.api import train
from sagan.config import UserError
from sagan.evaluation import Scores
from sagan.presets import load_config
from sagan.runs import writer as module
from sagan.runs.checkpoints import load_checkpoint, save_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import read_records
from sagan.runs.writer import CheckpointWriter
from sagan.training import evaluator, feed, least_memory, loop, performance, steps
from sagan.training.run import Callback
from tests.helpers.compare_runs import unequal

CPU = torch.device("cpu")
QUIET = ("logging.images_every=0", "logging.attention_every=0", "checkpoint.every=2", "training.steps=5")


class Seen(Callback):
    """A callback that notes steps in a list, and calls a function after one of them."""

    def __init__(self, events, step=0, then=lambda: None):
        self.events, self.step, self.then = events, step, then

    def after_step(self, run, metrics):
        self.events.append(run.state.step)
        if run.state.step == self.step:
            self.then()


@pytest.fixture
def writes(monkeypatch):
    """Return (events, hold): the writes that begin and end, and a function that holds up that of a step."""
    events, held = [], {}

    def write(run_dir, content, keep):
        events.append(f"begin {content['step']}")
        if content["step"] in held:
            assert held[content["step"]].wait(60), "the run waits for the write"
        path = save_checkpoint(run_dir, content, keep)
        events.append(f"end {content['step']}")
        return path

    monkeypatch.setattr(module, "save_checkpoint", write)
    return events, lambda step: held.setdefault(step, threading.Event())


@pytest.fixture
def failing(monkeypatch):
    """Return a function: after failing(n), the checkpoint of step n finds the disk full."""
    from sagan.runtime import files

    replace = files.os.replace

    def fail(step):
        def full(source, target):
            if str(target).endswith(f"step-{step:08d}.pt"):
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        monkeypatch.setattr(files.os, "replace", full)

    return fail


def content(step):
    return {"step": step, "config": {}, "generator": {"w": torch.full((9,), float(step))}}


def test_training_continues_while_a_checkpoint_is_written(make_config, writes):
    events, hold = writes
    release = hold(2)
    train(make_config(*QUIET), callbacks=[Seen(events, 4, release.set)])
    assert [e for e in events if e in (3, 4, "end 2", "begin 4")] == [3, 4, "end 2", "begin 4"]
    assert events.index("begin 2") < events.index(4) and events[-1] == "end 5"


def test_a_checkpoint_has_the_state_of_its_step_and_the_bytes_of_one_written_at_once(make_config, tmp_path, writes):
    events, hold = writes
    options = (*QUIET, "checkpoint.keep=9", "training.ema_start=1")
    train(make_config(*options, f"run_dir={tmp_path / 'one'}"))
    train(make_config(*options, f"run_dir={tmp_path / 'two'}"), callbacks=[Seen(events, 4, hold(2).set)])
    for step in (2, 4, 5):
        one, two = (load_checkpoint(checkpoint_path(tmp_path / name, step)) for name in ("one", "two"))
        assert one["step"] == step and len(one["generator"]) > 20 and unequal(one, two) == []
    at_once = save_checkpoint(tmp_path / "at-once", two, keep=1)
    assert at_once.stat().st_size == checkpoint_path(tmp_path / "two", 5).stat().st_size


def test_the_next_checkpoint_waits_for_the_one_before(tmp_path, writes):
    events, hold = writes
    release = hold(1)
    with CheckpointWriter(tmp_path, keep=9) as writer:
        writer.save(content(1), CPU)
        second = threading.Thread(target=writer.save, args=(content(2), CPU))
        second.start()
        second.join(0.2)
        assert second.is_alive() and events == ["begin 1"]
        release.set()
        second.join(60)
        writer.wait()
        assert events == ["begin 1", "end 1", "begin 2", "end 2"]
        writer.wait()  # for nothing


def test_changes_after_a_save_are_not_saved(tmp_path, writes):
    _, hold = writes
    release, saved = hold(1), content(1)
    with CheckpointWriter(tmp_path, keep=9) as writer:
        writer.save(saved, CPU)
        saved["generator"]["w"].zero_()
        release.set()
    assert load_checkpoint(checkpoint_path(tmp_path, 1))["generator"]["w"].sum() == 9


def test_a_failed_write_is_an_error_before_the_next_one_begins(make_config, tmp_path, writes, failing):
    events, _ = writes
    failing(2)
    with pytest.raises(UserError, match=r"step-00000002.pt: cannot be written: .*No space left on device$"):
        train(make_config(*QUIET), callbacks=[Seen(events)])
    assert [e for e in events if type(e) is int] == [1, 2, 3, 4] and "begin 4" not in events
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_failed_write_is_an_error_before_an_evaluation(make_config, tmp_path, failing, monkeypatch):
    asked = []

    def score(generator, data, step, ema):
        asked.append(step)
        return Scores({"fid": 1.0}, {"step": step})

    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: score)
    failing(3)
    with pytest.raises(UserError, match=r"step-00000003.pt: cannot be written: .*Earlier checkpoints are untouched\.$"):
        train(make_config(*QUIET, "evaluation.every=3"))
    assert asked == [] and not (tmp_path / "run" / "best.json").exists()


@pytest.mark.parametrize("ending", ["last step", "signal", "unreadable images", "divergence"])
def test_a_failed_write_is_an_error_however_the_run_ends(make_config, tmp_path, failing, monkeypatch, capsys, ending):
    """Its message is the only one: nothing is said to be saved, and no divergence is recorded."""
    if ending == "signal":
        monkeypatch.setattr(loop.StopRequest, "agreed", lambda self, failed: True)
    if ending == "unreadable images":
        fetch = feed.Feed.fetch

        def fail(self):
            self.failure = UserError("cannot be read")

        monkeypatch.setattr(feed.Feed, "fetch", lambda self: fail(self) if self.ready else fetch(self))
    if ending == "divergence":
        nan = torch.tensor(float("nan"))
        step = steps.generator_step

        def diverging(state, inputs):
            return {k: nan if state.step == 2 else v for k, v in step(state, inputs).items()}

        monkeypatch.setattr(performance, "EAGER", steps.EAGER._replace(generator=diverging))
    failing({"last step": 5, "divergence": 2}.get(ending, 1))
    with pytest.raises(UserError, match=r"step-0000000\d.pt: cannot be written: .*No space left on device") as error:
        train(make_config(*QUIET))
    assert type(error.value) is UserError and "saved" not in str(error.value) + capsys.readouterr().out
    assert not any("diverged" in r for r in read_records(tmp_path / "run" / "metrics.jsonl"))


def test_after_another_error_the_write_is_finished_before_the_run_directory_is_free(make_config, tmp_path, monkeypatch):
    def slow(run_dir, content, keep):
        time.sleep(0.3)
        return save_checkpoint(run_dir, content, keep)

    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(module, "save_checkpoint", slow)
    with pytest.raises(ZeroDivisionError):
        train(make_config(*QUIET), callbacks=[Seen([], 3, fail)])
    assert checkpoints(tmp_path / "run") == [checkpoint_path(tmp_path / "run", 2)]
    assert not [t for t in threading.enumerate() if t.name.startswith("checkpoint")]


def test_the_memory_for_a_checkpoint_is_counted_once_and_on_a_cpu_alone(monkeypatch):
    needed = []
    monkeypatch.setattr(least_memory, "is_small", lambda config, device: False)
    monkeypatch.setattr(least_memory, "require_memory", lambda size, device, what: needed.append(size))
    config = load_config("quickstart", ["data.num_classes=10", "training.batch_size=4"])
    for device, processes in ((CPU, 1), (CPU, 2), (torch.device("cuda", 0), 2)):
        least_memory.require_memory_for(config, device, processes)
    (alone, _, shared, _, gpu, _) = needed
    assert alone == gpu * 7 / 4 and shared == gpu * 11 / 4
