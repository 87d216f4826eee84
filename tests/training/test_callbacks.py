"""Callbacks: called in order after each step and each evaluation, and not counted as training time."""

import pytest

from sagan.api import train
from sagan.evaluation import Scores
from sagan.runs.directory import checkpoint_path
from sagan.runs.records import read_records
from sagan.training import diagnostics, evaluator
from sagan.training.run import Callback


class Recorder(Callback):
    """A callback that notes each call, with the files that exist at that time."""

    def __init__(self, name, calls):
        self.name = name
        self.calls = calls

    def after_step(self, run, metrics):
        self.note("step", run)
        assert {"loss/discriminator", "loss/generator"} <= metrics.keys()
        assert all(value.ndim == 0 for value in metrics.values())

    def after_evaluation(self, run, scores):
        self.note("evaluation", run)
        assert scores.values == {"fid": 10.0 - run.state.step}

    def note(self, event, run):
        records = [r for r in read_records(run.directory / "metrics.jsonl") if r["step"] == run.state.step]
        recorded = any(("fid" if event == "evaluation" else "loss/generator") in r for r in records)
        saved = checkpoint_path(run.directory, run.state.step).is_file()
        self.calls.append((event, run.state.step, self.name, recorded, saved))


@pytest.fixture
def scored(monkeypatch):
    """Make every evaluation return a score that depends on the step."""

    def score(generator, data, step, ema):
        return Scores({"fid": 10.0 - step}, {"step": step})

    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: score)


def test_callbacks_are_called_in_order_after_records_and_before_the_checkpoint(make_config, scored):
    calls = []
    options = ("training.steps=3", "evaluation.every=2", "logging.every=1")
    train(make_config(*options), callbacks=[Recorder("first", calls), Recorder("second", calls)])
    # Per call: event, step, callback, whether the record is written, whether the checkpoint is.
    expected = []
    for step, evaluates in ((1, False), (2, True), (3, True)):
        expected += [("step", step, name, True, False) for name in ("first", "second")]
        expected += [("evaluation", step, name, True, True) for name in ("first", "second")] * evaluates
    assert calls == expected


def test_a_resumed_run_calls_back_only_for_its_own_steps(make_config, scored):
    calls = []
    train(make_config("training.steps=2"))
    train(make_config("training.steps=3"), callbacks=[Recorder("only", calls)])
    assert [call[:2] for call in calls] == [("step", 3), ("evaluation", 3)]


def test_a_callback_that_overrides_nothing_does_nothing(make_config):
    train(make_config("training.steps=1"), callbacks=[Callback()])


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock of the meter by one that a test sets: clock["now"] in seconds."""
    time = {"now": 100.0}
    monkeypatch.setattr(diagnostics.time, "perf_counter", lambda: time["now"])
    return time


def test_time_in_callbacks_does_not_count_as_training_time(make_config, clock, monkeypatch):
    """A step takes 2 s here, a callback 1000 s: 4 images per step are 2 images per second."""
    from sagan.training import loop

    step = loop.train_step

    def timed_step(*given):
        clock["now"] += 2
        return step(*given)

    class Slow(Callback):
        def after_step(self, run, metrics):
            clock["now"] += 1000

    monkeypatch.setattr(loop, "train_step", timed_step)
    run_dir = train(make_config("training.steps=3", "logging.every=1"), callbacks=[Slow()])
    speeds = [r["speed/images_per_second"] for r in read_records(run_dir / "metrics.jsonl") if "loss/generator" in r]
    assert speeds == pytest.approx([2, 2, 2])


def test_the_speed_is_that_since_the_call_before_without_pauses(clock):
    speed = diagnostics.Throughput(batch_size=8, step=10)
    clock["now"] += 4
    assert speed(15) == pytest.approx(5 * 8 / 4)
    clock["now"] += 1
    with speed.paused():
        clock["now"] += 50
    clock["now"] += 1
    with speed.paused():
        clock["now"] += 7
    assert speed(16) == pytest.approx(8 / 2)
    clock["now"] += 2
    assert speed(17) == pytest.approx(8 / 2)
