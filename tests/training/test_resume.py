"""What a run can resume with: it is compared with its newest checkpoint and nothing else."""

import json
import shutil

import pytest
import torch

from sagan.api import train
from sagan.config import ConfigError, UserError
from sagan.evaluation import Scores
from sagan.runs import best
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.evaluation import recorded
from sagan.runs.records import read_records
from sagan.training import evaluator


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"  # the default of `make_config`


def edit(path, **changes):
    """Change entries of a checkpoint. None removes an entry."""
    content = {**load_checkpoint(path), **changes}
    torch.save({k: v for k, v in content.items() if v is not None}, path)


@pytest.mark.parametrize("damage", ["missing", "empty", "broken"])
def test_the_checkpoint_defines_the_run_even_without_its_config_yaml(make_config, run_dir, damage):
    train(make_config("training.steps=1"))
    file, whole = run_dir / "config.yaml", (run_dir / "config.yaml").read_text()
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"empty": "", "broken": "training: {steps: ["}[damage])
    for change, words in {
        "training.batch_size=2": "training.batch_size: 4 in the run, 2 now",
        "optimizer.generator_lr=0.5": "optimizer.generator_lr: 0.0001 in the run, 0.5 now",
        "model.generator.channels=8": "model.generator.channels: 4 in the run, 8 now",
    }.items():
        with pytest.raises(ConfigError, match=f"(?s){run_dir} cannot be resumed.*{words}"):
            train(make_config("training.steps=2", change))
    train(make_config("training.steps=2"))
    assert file.read_text() == whole.replace("  steps: 1\n", "  steps: 2\n")


def test_repeated_class_names_of_older_checkpoints_are_those_that_are_told_apart_now(make_config, run_dir):
    images = [(torch.full((3, 32, 32), 9 * i, dtype=torch.uint8), i % 3) for i in range(6)]

    class Cranes(list):
        classes = ("crane", "crane", "dog")

    config = ["data.source=dataset", "data.num_classes=null"]
    train(make_config("training.steps=1", *config), dataset=Cranes(images))
    path = checkpoint_path(run_dir, 1)
    data = load_checkpoint(path)["data"]
    assert data["class_names"] == ["crane (0)", "crane (1)", "dog"]
    edit(path, data={**data, "class_names": [*Cranes.classes]})
    train(make_config("training.steps=2", *config), dataset=Cranes(images))
    assert load_checkpoint(checkpoint_path(run_dir, 2))["data"] == data


def test_a_run_without_a_checkpoint_has_nothing_to_resume(make_config, run_dir):
    train(make_config("training.steps=1"))
    checkpoint_path(run_dir, 1).unlink()
    train(make_config("training.steps=1", "training.batch_size=2", "model.generator.channels=8"))
    assert load_checkpoint(checkpoint_path(run_dir, 1))["config"]["training"]["batch_size"] == 2
    assert [r["images_seen"] for r in read_records(run_dir / "metrics.jsonl") if "images_seen" in r] == [2]


def test_a_checkpoint_that_does_not_fit_its_configuration_is_named(make_config, run_dir):
    train(make_config("training.steps=1"))
    path = checkpoint_path(run_dir, 1)
    edit(path, discriminator=None)
    with pytest.raises(UserError, match=rf"{path}: does not fit its configuration: 'discriminator'"):
        train(make_config("training.steps=2"))
    edit(path, discriminator={"logit.bias": torch.zeros(5)})
    with pytest.raises(UserError, match=rf"{path}: does not fit its configuration: .*Missing key"):
        train(make_config("training.steps=2"))
    edit(path, config="text")
    with pytest.raises(UserError, match=rf"{path}: not a checkpoint"):
        train(make_config("training.steps=2"))


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_a_damaged_best_json_is_written_again_from_the_records(make_config, run_dir, monkeypatch, text):
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Fids(3.0, 5.0))
    train(make_config("training.steps=1", "evaluation.every=1"))
    whole = (run_dir / "best.json").read_text()
    (run_dir / "best.json").write_text(text)
    assert find_checkpoint(run_dir, "best") == checkpoint_path(run_dir, 1)
    train(make_config("training.steps=2", "evaluation.every=1"))
    assert (run_dir / "best.json").read_text() == whole


def test_other_classes_or_another_number_of_images_are_refused_with_both_values(make_config, image_folder, tmp_path):
    train(make_config("training.steps=1"))
    moved = shutil.copytree(image_folder, tmp_path / "moved")
    train(make_config("training.steps=2", f"data.path={moved}"))  # the same data elsewhere

    (moved / "a").rename(moved / "zebra")  # b, c, zebra: the same number of classes and images
    with pytest.raises(ConfigError) as error:
        train(make_config("training.steps=3", f"data.path={moved}"))
    assert str(error.value).splitlines()[1:-1] == [
        "  class 0: a in the run, b now",
        "  class 1: b in the run, c now",
        "  class 2: c in the run, zebra now",
    ]
    (moved / "zebra").rename(moved / "a")
    next((moved / "c").iterdir()).unlink()
    with pytest.raises(ConfigError, match="(?s)other data:\n  images: 24 in the run, 23 now\nGive"):
        train(make_config("training.steps=3", f"data.path={moved}"))

    edit(checkpoint_path(tmp_path / "run", 2), data=None)  # as older versions wrote it
    train(make_config("training.steps=3", f"data.path={moved}"))


def test_if_unreadable_images_are_skipped_the_memory_limit_is_part_of_the_run(make_config):
    train(make_config("training.steps=1", "data.on_error=skip"))
    with pytest.raises(ConfigError, match=r"data.memory_gb: 4.0 in the run, 0.0 now"):
        train(make_config("training.steps=2", "data.on_error=skip", "data.memory_gb=0"))


def test_if_precision_means_another_dtype_the_error_says_how_to_resume(make_config, run_dir, monkeypatch):
    monkeypatch.setattr("sagan.runtime.device.faster_in_bf16", lambda device: True)
    train(make_config("training.steps=1", "training.precision=auto"))
    monkeypatch.setattr("sagan.runtime.device.faster_in_bf16", lambda device: False)
    refusal = rf"training.precision auto means float32 .*{run_dir} was trained in bfloat16; .*--training.precision bf16"
    with pytest.raises(ConfigError, match=refusal):
        train(make_config("training.steps=2", "training.precision=auto"))
    train(make_config("training.steps=2", "training.precision=bf16"))

    edit(checkpoint_path(run_dir, 2), dtype=None)  # as older versions wrote it
    with pytest.raises(ConfigError, match="training.precision: bf16 in the run, float32 now"):
        train(make_config("training.steps=3", "training.precision=float32"))


class Killed(BaseException):
    """A stand-in for a signal that cannot be caught."""


class Fids:
    """A stand-in for the evaluator: each evaluation returns the next of `fids`, or dies of an exception among them."""

    def __init__(self, *fids):
        self.fids = list(fids)

    def __call__(self, generator, data, step, ema):
        fid = self.fids.pop(0)
        if isinstance(fid, BaseException):
            raise fid
        return Scores({"fid": fid}, {"step": step, "n_fake": 5})


def test_the_best_checkpoint_survives_a_kill_between_its_record_and_best_json(make_config, run_dir, monkeypatch):
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Fids(9.0, 1.0))
    options = ("evaluation.every=1", "checkpoint.every=1", "checkpoint.keep=1")

    def killed(path):
        if checkpoint_path(path, 2).exists():
            raise Killed
        best.write_best(path)

    monkeypatch.setattr("sagan.training.run.write_best", killed)
    with pytest.raises(Killed):
        train(make_config("training.steps=5", *options))
    assert json.loads((run_dir / "best.json").read_text())["step"] == 1
    monkeypatch.setattr("sagan.training.run.write_best", best.write_best)
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Fids(4.0, 3.0, 2.0))
    train(make_config("training.steps=5", *options))
    assert json.loads((run_dir / "best.json").read_text())["checkpoint"] == "step-00000002.pt"
    assert [p.name for p in checkpoints(run_dir)] == ["step-00000002.pt", "step-00000005.pt"]


def test_an_evaluation_of_the_users_own_is_not_taken_for_the_runs(make_config, run_dir, monkeypatch):
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Fids(Killed()))
    config = make_config("training.steps=2", "evaluation.every=2")
    with pytest.raises(Killed):
        train(config)
    recorded(Scores({"fid": 0.5}, {"step": 2, "n_fake": 3}), run_dir, 2)  # what `sagan evaluate RUN` does
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: Fids(7.0))
    train(config)
    found = json.loads((run_dir / "best.json").read_text())
    assert (found["step"], found["fid"], found["evaluation"]["protocol"]["n_fake"]) == (2, 7.0, 5)


def test_a_last_evaluation_prevented_by_a_kill_is_done_on_resume(make_config, run_dir, monkeypatch, capsys):
    asked = []

    def score(generator, data, step, ema):
        asked.append(step)
        if len(asked) == 1:
            raise Killed
        return Scores({"fid": 3.0}, {"step": step})

    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: score)
    config = make_config("training.steps=2", "evaluation.every=5")  # the last step is always evaluated
    with pytest.raises(Killed):
        train(config)
    train(config)
    assert asked == [2, 2] and (run_dir / "best.json").is_file()
    assert [r["step"] for r in read_records(run_dir / "metrics.jsonl") if "evaluation" in r] == [2]
    train(config)
    assert asked == [2, 2] and capsys.readouterr().out.count("finished: 2 steps") == 2


def test_more_real_images_than_the_data_have_are_refused_before_anything_is_written(make_config, run_dir, monkeypatch):
    monkeypatch.setattr(evaluator, "build_extractor", lambda *args: pytest.fail("this may be a download"))
    with pytest.raises(ConfigError, match=r"^evaluation.num_real 25: the data have 24 images"):
        train(make_config("training.steps=1", "evaluation.every=1", "evaluation.num_real=25"))
    assert not run_dir.exists()


def test_unreadable_images_do_not_count_as_real_images(make_config, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluator.Evaluator, "build", lambda config, device: pytest.fail)
    some = shutil.copytree(image_folder, tmp_path / "some")
    next((some / "a").iterdir()).write_bytes(b"no image")
    wanted = ("evaluation.every=1", "evaluation.num_real=24", f"data.path={some}", "data.on_error=skip")
    with pytest.raises(ConfigError, match=r"^evaluation.num_real 24: the data have 23 images"):
        train(make_config("training.steps=1", *wanted))


def test_missing_data_or_weights_leave_no_run_directory_and_data_are_checked_first(make_config, run_dir, monkeypatch):
    def no_weights(*args):
        raise UserError("no weights")

    monkeypatch.setattr(evaluator, "build_extractor", no_weights)
    with pytest.raises(UserError, match="data.path /nowhere: does not exist"):
        train(make_config("evaluation.every=1", "data.path=/nowhere"))
    with pytest.raises(UserError, match="no weights"):
        train(make_config("evaluation.every=1"))
    assert not run_dir.exists()
