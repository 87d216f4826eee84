"""Records that lag behind, as on a GPU: the same ones, in the same order, and none of a diverged step."""

from types import SimpleNamespace

import pytest
import torch

from sagan.api import train
from sagan.runs.directory import checkpoints
from sagan.runs.records import read_records
from sagan.runtime.host import HostCopy
from sagan.training import evaluator, performance, recording, steps
from sagan.training.health import NonFiniteError
from sagan.training.run import Callback
from tests.helpers.compare_runs import differences
from tests.helpers.tiny_runs import cheap_extractor

CPU = torch.device("cpu")
QUIET = ("logging.images_every=0", "logging.attention_every=0", "checkpoint.every=0")


@pytest.fixture
def lag(monkeypatch):
    """Return a function: after lag(n), runs on the CPU record as ones on a GPU do, n steps later."""
    return lambda steps: monkeypatch.setattr(recording, "lag_on", lambda device: steps)


def test_records_that_lag_are_those_that_do_not(make_config, tmp_path, lag, monkeypatch):
    monkeypatch.setattr(evaluator, "build_extractor", cheap_extractor)
    options = (
        "logging.every=2",
        "logging.images_every=5",
        "logging.attention_every=6",
        "checkpoint.every=5",
        "evaluation.every=7",
        "evaluation.num_samples=8",
        "evaluation.num_real=8",
    )

    class Interrupts(Callback):
        def after_step(self, run, metrics):
            if run.state.step == 9:  # the record of step 8 is not written yet
                raise KeyboardInterrupt

    def run(name, *callbacks):
        return train(make_config(*options, "training.steps=11", f"run_dir={tmp_path / name}"), callbacks=callbacks)

    at_once = run("at-once")
    steps = [r["step"] for r in read_records(at_once / "metrics.jsonl")]
    assert steps == [1, 2, 4, 5, 6, 6, 7, 8, 10, 10, 11, 11, 11, 11]
    for steps_behind in (1, 4):
        lag(steps_behind)
        assert differences(run(f"by-{steps_behind}"), at_once) == []
    with pytest.raises(KeyboardInterrupt):
        run("parts", Interrupts())
    assert differences(run("parts"), at_once) == []


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        # Records are due after steps 1, 5, 10 and 12.
        ([], [0, 0, 1, 1, 1, 1, 5, 5, 5, 5, 5, 12]),
        (["checkpoint.every=6"], [0, 0, 1, 1, 1, 5, 5, 5, 5, 5, 5, 12]),
        (["logging.images_every=5"], [0, 0, 1, 1, 5, 5, 5, 5, 5, 10, 10, 12]),
        (["logging.every=1"], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]),  # the next record is more urgent
    ],
)
def test_a_record_is_written_two_steps_later_or_when_more_is_due(make_config, lag, options, seen):
    newest = []

    class Looks(Callback):
        def after_step(self, run, metrics):
            newest.append(max((r["step"] for r in read_records(run.directory / "metrics.jsonl")), default=0))

    lag(2)
    train(make_config("training.steps=12", "logging.every=5", *QUIET, *options), callbacks=[Looks()])
    assert newest == seen


def test_a_diverged_step_is_neither_recorded_nor_saved_but_steps_before_it_are(make_config, tmp_path, lag, monkeypatch):
    step = steps.generator_step

    def spoil(state, inputs):
        metrics = step(state, inputs)
        if state.step == 2:
            torch.nn.init.constant_(state.generator.project.bias, float("nan"))
        return metrics

    monkeypatch.setattr(performance, "EAGER", steps.EAGER._replace(generator=spoil))
    lag(9)
    with pytest.raises(NonFiniteError, match=r"step 3: not finite: generator\.project\.bias"):
        train(make_config("training.steps=9", "logging.every=2", *QUIET, "checkpoint.every=4"))
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert [(r["step"], "diverged" in r) for r in records] == [(1, False), (2, False), (3, True)]
    assert checkpoints(tmp_path / "run") == []


def test_a_copy_on_the_host_has_the_values_and_strides_of_its_time():
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    content = {"step": 3, "network": network.state_dict(), "groups": [{"lr": 0.1, "t": torch.ones(2)}], "none": None}
    before = network.weight.detach().clone()
    copied = HostCopy(content, CPU).wait()
    torch.nn.init.zeros_(network.weight)
    content["groups"][0]["t"].zero_()
    assert torch.equal(copied["network"]["weight"], before)
    assert copied["network"]["weight"].stride() == network.weight.stride() != before.contiguous().stride()
    assert copied["groups"] == [{"lr": 0.1, "t": copied["groups"][0]["t"]}] and copied["groups"][0]["t"].sum() == 2
    assert copied["step"] == 3 and copied["none"] is None
    assert copied["network"]._metadata == network.state_dict()._metadata


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_copy_of_what_a_gpu_overwrites_is_right():
    device = torch.device("cuda", 0)
    x = torch.full((1000, 1000), 1.0, device=device)
    for _ in range(200):
        x @ x  # work that is queued before
    copied = HostCopy({"x": x}, device)
    x.zero_()
    found = copied.wait()["x"]
    assert found.is_pinned() and (found == 1).all()


def test_the_host_stays_near_a_gpu(make_state, monkeypatch):
    """With every step it waits for the one that is `MOST_AHEAD` steps back, and for none before that."""
    waits = []

    class Event:
        made = 0

        def __init__(self):
            Event.made += 1
            self.number = Event.made

        def record(self):
            pass

        def synchronize(self):
            waits.append((Event.made, self.number))

    monkeypatch.setattr(torch.cuda, "Event", Event)
    state = make_state()
    recorder = recording.RecordWriter(SimpleNamespace(state=state, config=state.config))
    for _ in range(2 * recording.MOST_AHEAD):
        recorder.stay_near()
    assert waits == [(recording.MOST_AHEAD + n, n) for n in range(1, recording.MOST_AHEAD + 1)]
