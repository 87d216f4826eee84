"""Whole runs through `train`: resuming, files written, and errors that stop a run."""

import errno
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sagan import training
from sagan.api import train
from sagan.config import ConfigError, UserError
from sagan.runs import best
from sagan.runs.checkpoints import checkpoints_to_remove, load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import read_records
from sagan.training import evaluator, loop, messages, performance, steps
from sagan.training.health import NonFiniteError
from sagan.training.run import Callback
from sagan.viewing import recorder
from sagan.viewing.plugin import NAME as PLUGIN

PAGE = Path(training.__file__).with_name("README.md")
FULL = (
    "training.d_steps=2",
    "training.micro_batches=2",
    "training.diffaugment=[color,translation,cutout]",
    "data.flip=true",
    "training.ema_start=1",
    "logging.every=1",
    "logging.images_every=2",
    "logging.attention_every=2",
    "checkpoint.every=2",
)
UNSTEADY = ("time", "speed/images_per_second", "memory/peak_gib")


@pytest.fixture
def configure(make_config, tmp_path):
    """Return a function: configure("name", steps, ...) is the configuration of a run of that name and length."""
    return lambda name, steps, *rest: make_config(f"run_dir={tmp_path / name}", f"training.steps={steps}", *rest)


def leaves(value, path=""):
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in leaves(inner, f"{path}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return leaves(dict(enumerate(value)), path)
    return {path: value}


def assert_same_checkpoint(one, two):
    """Compare all but the configuration, which names the run and its steps, bit by bit."""
    one, two = (leaves({k: v for k, v in c.items() if k != "config"}) for c in (one, two))
    assert one.keys() == two.keys()
    for name, value in one.items():
        same = torch.equal(value, two[name]) if isinstance(value, torch.Tensor) else value == two[name]
        assert same, name


def steady(records):
    return [{k: v for k, v in r.items() if k not in UNSTEADY} for r in records]


def test_resume_is_bit_exact(configure, tmp_path):
    train(configure("whole", 4, *FULL))
    train(configure("parts", 2, *FULL))
    train(configure("parts", 4, *FULL))
    whole, parts = (load_checkpoint(checkpoint_path(tmp_path / name, 4)) for name in ("whole", "parts"))
    assert len(leaves(whole)) > 300 and "generator_ema" in whole and len(whole["generator_optimizer"]["state"]) > 20
    assert_same_checkpoint(whole, parts)
    records = [steady(read_records(tmp_path / name / "metrics.jsonl")) for name in ("whole", "parts")]
    assert records[0] == records[1] and [r["step"] for r in records[0]] == [1, 2, 2, 2, 3, 4, 4, 4]
    grids = [(tmp_path / n / "samples" / "step-00000004.png").read_bytes() for n in ("whole", "parts")]
    assert grids[0] == grids[1]


def test_attention_is_recorded_only_when_it_is_due(configure, monkeypatch):
    looked = []
    monkeypatch.setattr(recorder, "attention_views", lambda state, data: looked.append(state.step) or [])
    train(configure("never", 3, "logging.attention_every=0", "logging.images_every=1"))
    assert looked == []
    train(configure("sometimes", 5, "logging.attention_every=2", "logging.images_every=0"))
    assert looked == [2, 4, 5]


def test_a_run_killed_after_its_checkpoint_repeats_the_same_steps(configure, tmp_path, monkeypatch):
    train(configure("whole", 3, *FULL, "checkpoint.every=1"))
    config = configure("killed", 3, *FULL, "checkpoint.every=1")
    step = steps.generator_step

    class Killed(BaseException):
        pass

    def dies_at_step_3(state, inputs):
        if state.step == 2:
            raise Killed
        return step(state, inputs)

    monkeypatch.setattr(performance, "EAGER", steps.EAGER._replace(generator=dies_at_step_3))
    with pytest.raises(Killed):
        train(config)
    # Records after the checkpoint, as if the kill had come later, and half a line.
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "loss/discriminator": 9}\n{"step": 4, "lo')
    monkeypatch.undo()
    train(config)
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert_same_checkpoint(*(load_checkpoint(checkpoint_path(d, 3)) for d in (whole, killed)))
    assert steady(read_records(killed / "metrics.jsonl")) == steady(read_records(whole / "metrics.jsonl"))


def test_files_and_records_of_a_run(configure, tmp_path, capsys):
    run_dir = train(configure("run", 3, *FULL))
    assert {p.name for p in run_dir.iterdir() if not p.name.startswith(("events.", "."))} == {
        "config.yaml",
        "log.txt",
        "metrics.jsonl",
        "checkpoints",
        "samples",
    }
    assert [p.name for p in (run_dir / "checkpoints").iterdir()] == ["step-00000002.pt", "step-00000003.pt"]
    records = read_records(run_dir / "metrics.jsonl")
    training = {
        "loss/discriminator",
        "loss/generator",
        "logits/real",
        "logits/fake",
        "accuracy/real",
        "accuracy/fake",
        "spread/real",
        "spread/fake",
        "gradient/generator",
        "gradient/discriminator",
        "lr/generator",
        "lr/discriminator",
        "speed/images_per_second",
        "memory/peak_gib",
        "attention/gamma/generator.blocks.1.attention",
        "attention/gamma/discriminator.blocks.0.attention",
    }
    assert training | {"step", "images_seen", "time"} == set(records[0])
    assert records[0]["images_seen"] == 4 and records[0]["lr/discriminator"] == 4e-4
    looks = next(r for r in records if "singular_value/generator.project" in r)
    entropies = {k: v for r in records for k, v in r.items() if k.startswith("attention/entropy/")}
    assert set(entropies) == {
        f"attention/entropy/{n}.attention" for n in ("generator.blocks.1", "discriminator.blocks.0")
    }
    assert all(0 < v <= 1 + 1e-5 for v in entropies.values())
    assert len([k for k in looks if k.startswith("singular_value/")]) > 20

    explained = set(re.findall(r"`(\w+/\w+(?:/LAYER)?)`", PAGE.read_text()))
    names = {re.sub(r"(?<=/)(generator|discriminator)\..*", "LAYER", name) for r in records for name in r}
    assert {name for name in names if "/" in name} == explained

    board = EventAccumulator(str(run_dir), size_guidance={"images": 0})
    board.Reload()
    tags = board.Tags()
    singular = {
        f"singular_value/{network}.{which}"
        for network in ("generator", "discriminator")
        for which in ("largest", "median")
    }
    texts = {"configuration/text_summary", "singular_value/text_summary", "custom_scalars__config__"}
    hparams = {"_hparams_/experiment", "_hparams_/session_start_info"}
    attention = {
        "attention-maps/generator/blocks.1.attention/generated",
        "attention-maps/discriminator/blocks.0.attention/generated",
        "attention-maps/discriminator/blocks.0.attention/real",
    }
    assert training | singular | set(entropies) | texts | attention == set(tags["tensors"]) - hparams
    assert [e.step for e in board.Tensors("loss/generator")] == [1, 2, 3]
    assert [e.step for e in board.Images("samples/real")] == [0]
    assert [e.step for e in board.Images("samples/ema")] == [2, 3]
    assert attention == set(board.PluginTagToContent(PLUGIN))
    assert all([e.step for e in board.Tensors(tag)] == [2, 3] for tag in attention)

    said = capsys.readouterr().out
    assert "24 images, 32x32 RGB" in said and "a, b, c; 8 images each" in said
    for words in (
        "finished: 3 steps",
        "samples/step-00000003.png",
        "step-00000003.pt",
        "tensorboard --logdir",
        "sagan sample",
    ):
        assert words in said and words in (run_dir / "log.txt").read_text()


def test_grid_rows_are_classes_and_columns_share_z(make_state):
    from sagan.training.diagnostics import grid_inputs

    z, y = grid_inputs(make_state())
    assert z.shape == (30, 8) and y.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert torch.equal(z[:10], z[10:20]) and torch.equal(z, grid_inputs(make_state())[0])
    z, y = grid_inputs(make_state("data.num_classes=0"))
    assert z.shape == (100, 8) and y is None


@pytest.mark.parametrize("counts", [[0, 3, 12], [2, 0, 0], [1, 1, 1]])
def test_the_grid_of_real_images_has_a_row_for_each_class_even_with_few_images(make_state, counts):
    from sagan.data import MemoryDataset
    from sagan.training.diagnostics import real_grid

    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    images = torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)
    grid = real_grid(make_state(), MemoryDataset(images, labels, list("abc"), "memory"))
    cells = grid[0, 2:, 2:].unfold(0, 32, 34).unfold(1, 32, 34)  # rows, columns, 32, 32
    assert [(row == 0).all(-1).all(-1).sum().item() for row in cells] == [min(c, 10) for c in counts]


def test_a_finished_run_is_left_unchanged(configure, tmp_path, capsys):
    run_dir = train(configure("run", 2))

    def snapshot():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in run_dir.rglob("*") if p.is_file()}

    before = snapshot()
    capsys.readouterr()
    for last in (2, 1):
        train(configure("run", last, "data.path=/nowhere"))  # the data are not even opened
        assert snapshot() == before and "finished: 2 steps" in capsys.readouterr().out


def test_another_configuration_is_refused_with_the_difference(configure, tmp_path):
    train(configure("run", 1))
    with pytest.raises(ConfigError, match=r"(?s)cannot be resumed.*training.seed: 0 in the run, 5 now"):
        train(configure("run", 2, "training.seed=5"))


def test_a_batch_that_cannot_be_split_is_refused_before_anything_is_written(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.training.resume.world_size", lambda: 3)
    with pytest.raises(ConfigError, match="training.batch_size 4 cannot be split over 3 processes"):
        train(configure("run", 1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["training.performance=graphs"], "training.performance graphs: expected a GPU, but the device is cpu"),
        (
            ["evaluation.every=1", "evaluation.num_samples=1"],
            "evaluation.num_samples 1: a score needs at least 2 generated images",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(configure, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        train(configure("run", 1, *options))
    assert not (tmp_path / "run").exists()


def test_a_configuration_without_a_run_directory_is_refused(make_config):
    with pytest.raises(ConfigError, match="run_dir null: expected a folder"):
        train(replace(make_config(), run_dir=None))


def test_a_resumed_run_names_its_first_step(configure, capsys):
    train(configure("run", 1))
    assert "run: starting at step 0 of 1, 4 images per step, 1 process on cpu" in capsys.readouterr().out
    train(configure("run", 2))
    assert "run: resuming from step 1 of 2, 4 images per step" in capsys.readouterr().out


def test_without_a_terminal_the_log_shows_progress_now_and_then(configure, capsys, monkeypatch):
    monkeypatch.setattr(messages.Progress, "SECONDS", 0.0)
    run_dir = train(configure("run", 2))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    kept = [line.split("  ", 1)[1] for line in (run_dir / "log.txt").read_text().splitlines()]
    assert len(lines) == 2 and lines == [line for line in kept if line.startswith("step ")]
    assert lines[0].startswith("step 1 of 2: D ") and "images/s" in lines[0] and lines[1].endswith("00:00 left")


def test_pauses_are_no_part_of_the_rate_and_of_the_time_left(configure, capsys, monkeypatch):
    class Pause(Callback):
        def after_step(self, run, metrics):
            time.sleep(1.0)

    monkeypatch.setattr(messages.Progress, "SECONDS", 0.0)
    train(configure("run", 3), callbacks=[Pause()])
    rates = re.findall(r"step [23] of 3: .* (\d+) images/s", capsys.readouterr().out)
    assert len(rates) == 2 and min(map(int, rates)) > 8  # of 4 images per step and second with the pauses


@pytest.mark.parametrize(
    ("world", "here", "command"),
    [
        (1, 1, "sagan train x"),
        (2, 2, "torchrun --nproc_per_node 2 -m sagan train x"),
        (8, 4, "on each machine, with its --rdzv options: torchrun --nnodes 2 --nproc_per_node 4 -m sagan train x"),
    ],
)
def test_a_stopped_run_names_the_command_that_resumes_it(tmp_path, monkeypatch, world, here, command):
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setattr("sys.argv", ["/usr/bin/sagan", "train", "x"])  # other programs set these two variables, too
    assert messages.farewell(tmp_path, 3, 5)[1] == "To resume, run: sagan train x"
    monkeypatch.setenv("RANK", "0")
    for program in ("/usr/bin/sagan", "/lib/sagan/__main__.py"):
        monkeypatch.setattr("sys.argv", [program, "train", "x"])
        said = messages.farewell(tmp_path, 3, 5)[1]
        assert said.replace("run: ", "run ", here == world) == f"To resume, run {command}"
    monkeypatch.setattr("sys.argv", ["my/script.py", "train", "x"])
    assert messages.farewell(tmp_path, 3, 5)[1] == "To resume, call train again with the same configuration."


def test_commands_quote_the_name_of_a_run(tmp_path):
    assert f"  sagan export '{tmp_path}/my run'" in messages.farewell(tmp_path / "my run", 5, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stops_the_run_and_is_never_saved(configure, tmp_path, monkeypatch, value):
    step = steps.generator_step

    def spoil(state, inputs):
        metrics = step(state, inputs)
        if state.step == 2:
            with torch.no_grad():
                state.generator.blocks[0].conv1.weight[0, 0, 0, 0] = value
        return metrics

    monkeypatch.setattr(performance, "EAGER", steps.EAGER._replace(generator=spoil))
    with pytest.raises(NonFiniteError, match=r"step 3: not finite: generator\.blocks\.0\.conv1\.weight"):
        train(configure("run", 5, "checkpoint.every=1", "logging.images_every=1"))
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step-00000001.pt", "step-00000002.pt"]
    assert not (tmp_path / "run" / "samples" / "step-00000003.png").exists()
    assert all(t.isfinite().all() for t in load_checkpoint(checkpoint_path(tmp_path / "run", 2))["generator"].values())


def test_a_loss_that_is_not_finite_is_named(configure, monkeypatch):
    monkeypatch.setattr("sagan.training.steps.discriminator_hinge", lambda real, fake: real.mean() * float("inf"))
    with pytest.raises(NonFiniteError, match="step 1: not finite: loss/discriminator, discriminator"):
        train(configure("run", 5))


def test_a_full_disk_ends_the_run_with_a_clear_error_and_keeps_older_checkpoints(configure, tmp_path, monkeypatch):
    from sagan.runtime import files

    replace = files.os.replace

    def full(source, target):
        if str(target).endswith("step-00000003.pt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match=r"step-00000003.pt: cannot be written: .*No space left.*Earlier .* untouched"):
        train(configure("run", 5, "checkpoint.every=1", "checkpoint.keep=2"))
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000001.pt",
        "step-00000002.pt",
    ]
    monkeypatch.undo()
    train(configure("run", 3, "checkpoint.every=1", "checkpoint.keep=2"))
    assert load_checkpoint(checkpoint_path(tmp_path / "run", 3))["step"] == 3


def test_a_run_directory_deleted_under_way_is_one_error_and_does_not_come_back(configure, tmp_path):
    class Deletes(Callback):
        def after_step(self, run, metrics):
            if run.state.step == 2:
                shutil.rmtree(run.directory)

    with pytest.raises(UserError, match=r"metrics.jsonl'\. The folder has been deleted or moved\.$"):
        train(configure("run", 9, "checkpoint.every=3", "logging.every=9"), callbacks=[Deletes()])
    assert not (tmp_path / "run").exists()


def test_a_run_directory_moved_under_way_is_not_split_in_two(configure, tmp_path):
    class Moves(Callback):
        def after_step(self, run, metrics):
            if run.state.step == 2:
                run.directory.rename(tmp_path / "moved")

    with pytest.raises(UserError, match=r"The folder has been deleted or moved\.$"):
        train(configure("run", 9, "checkpoint.every=3", "logging.every=9"), callbacks=[Moves()])
    assert not (tmp_path / "run").exists()
    (tmp_path / "moved").rename(tmp_path / "run")
    assert train(configure("run", 9, "checkpoint.every=3", "logging.every=9")).name == "run"


def test_skipped_images_are_named_in_the_log(configure, image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "some")
    (tmp_path / "some" / "a" / "broken.png").write_bytes(b"no image")
    run_dir = train(configure("run", 1, f"data.path={tmp_path / 'some'}", "data.on_error=skip"))
    log = (run_dir / "log.txt").read_text()
    assert "warning: left out: " in log and "a/broken.png" in log and "1 unreadable image left out" in log


def test_collapse_is_reported_in_the_log(configure, monkeypatch):
    monkeypatch.setattr("sagan.training.health.CollapseWatch.PATIENCE", 2)
    saturated = {"loss/discriminator": 0.001, "logits/real": 9.0, "logits/fake": -9.0}
    saturated |= {f"{name}/{kind}": 1.0 for name in ("accuracy", "spread") for kind in ("real", "fake")}
    monkeypatch.setattr(
        "sagan.training.steps._discriminator_metrics",
        lambda *args: {name: torch.tensor(value) for name, value in saturated.items()},
    )
    run_dir = train(configure("run", 4, "logging.every=1"))
    assert (run_dir / "log.txt").read_text().count("step 2: warning: the discriminator tells every real image") == 1
    assert {"step": 2, "warning": "saturated"} in read_records(run_dir / "metrics.jsonl")


class Scored:
    """A stand-in for the evaluator: each evaluation returns the next of `fids`."""

    def __init__(self, *fids):
        self.fids = list(fids)
        self.asked = []

    def __call__(self, generator, data, step, ema):
        from sagan.evaluation import Scores

        assert not generator.training
        self.asked.append((step, ema))
        return Scores({"fid": self.fids.pop(0)}, {"step": step, "ema": ema, "n_fake": 5})


def test_the_best_checkpoint_is_remembered_and_kept(configure, tmp_path, monkeypatch):
    scored = Scored(9.0, 3.0, 5.0, 4.0)
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: scored)
    run_dir = train(configure("run", 4, "evaluation.every=1", "checkpoint.every=1", "checkpoint.keep=1"))
    assert scored.asked == [(s, True) for s in (1, 2, 3, 4)]
    best = json.loads((run_dir / "best.json").read_text())
    assert (best["checkpoint"], best["step"], best["fid"]) == ("step-00000002.pt", 2, 3.0)
    assert [p.name for p in checkpoints(run_dir)] == ["step-00000002.pt", "step-00000004.pt"]
    found = [(r["step"], r["fid"]) for r in read_records(run_dir / "metrics.jsonl") if "evaluation" in r]
    assert found == [(1, 9.0), (2, 3.0), (3, 5.0), (4, 4.0)]


def test_the_checkpoint_that_was_the_best_goes_when_the_last_one_is_better(configure, monkeypatch):
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Scored(9.0, 5.0, 4.0))
    run_dir = train(configure("run", 3, "evaluation.every=1", "checkpoint.every=1", "checkpoint.keep=1"))
    assert [p.name for p in checkpoints(run_dir)] == ["step-00000003.pt"]


def test_the_generator_itself_is_evaluated_if_the_configuration_says_so(configure, monkeypatch):
    scored = Scored(1.0)
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: scored)
    train(configure("run", 1, "evaluation.every=1", "evaluation.ema=false"))
    assert scored.asked == [(1, False)]


def test_an_evaluation_prevented_by_a_stop_is_done_on_resume(configure, tmp_path, monkeypatch):
    scored = Scored(9.0, 8.0, 7.0)
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: scored)
    agreed = loop.StopRequest.agreed
    monkeypatch.setattr(loop.StopRequest, "agreed", lambda self, failed: True)
    train(configure("run", 3, "evaluation.every=1"))
    assert scored.asked == [] and [p.name for p in checkpoints(tmp_path / "run")] == ["step-00000001.pt"]
    monkeypatch.setattr(loop.StopRequest, "agreed", agreed)
    train(configure("run", 3, "evaluation.every=1"))
    assert scored.asked == [(1, True), (2, True), (3, True)]


def test_scores_under_another_protocol_do_not_compete(tmp_path):
    def remember(step, fid, **protocol):
        checkpoint_path(tmp_path, step).parent.mkdir(exist_ok=True)
        checkpoint_path(tmp_path, step).touch()
        record = {"step": step, "fid": fid, "evaluation": {"protocol": {"step": step, "torch": "2", **protocol}}}
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        best.write_best(tmp_path)
        return json.loads((tmp_path / "best.json").read_text())["step"]

    assert remember(1, 5.0, n_fake=10) == 1
    assert remember(2, 6.0, n_fake=10) == 1
    assert remember(3, 6.0, n_fake=20) == 3
    assert remember(4, 7.0, n_fake=20, torch="3") == 3
    assert [p.name for p in checkpoints_to_remove(tmp_path, 1)] == ["step-00000002.pt"]  # the best of each are kept
    checkpoint_path(tmp_path, 3).unlink()
    assert remember(5, 9.0, n_fake=20) == 4
    assert remember(6, float("nan"), n_fake=20) == 4
    assert remember(7, 7.0, n_fake=20) == 4  # the first of equal ones
    for step in range(1, 8):
        checkpoint_path(tmp_path, step).unlink(missing_ok=True)
    best.write_best(tmp_path)
    assert not (tmp_path / "best.json").exists()


def test_standing_statistics_are_used_for_the_evaluation_and_do_not_change_the_generator(make_state, monkeypatch):
    state, given = make_state("evaluation.standing_statistics=2", "evaluation.batch_size=4"), []
    monkeypatch.setattr(evaluator, "evaluate", lambda sample, **facts: given.append((sample(0, 2, None), facts)))
    monkeypatch.setattr(evaluator, "image_sampler", lambda generator, seed, truncation: lambda *args: generator)
    before = {k: v.clone() for k, v in state.generator_ema.state_dict().items()}
    evaluator.Evaluator(state.config.evaluation, None)(state.generator_ema, None, 7, ema=True)
    ((measured, facts),) = given
    assert facts["protocol"] == {"step": 7, "ema": True, "batch_norm": "standing over 2 batches of 4"}
    assert all(torch.equal(v, before[k]) for k, v in state.generator_ema.state_dict().items())
    assert not torch.equal(measured.norm.running_mean, before["norm.running_mean"]) and not measured.training
