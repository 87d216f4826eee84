"""`sagan evaluate`: whose images are compared, with which options, and what is stamped on the scores."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.commands.app import main
from sagan.config import DataConfig
from sagan.data import open_data
from sagan.runs import evaluation
from sagan.runs.records import read_records
from tests.helpers.tiny_runs import cheap_extractor, train_run

TWO = """
import sys
from tests.helpers.tiny_runs import cheap_extractor
from sagan.runs import evaluation
evaluation.build_extractor = cheap_extractor
from sagan.commands.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def cheap(monkeypatch, tmp_path):
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    for module in ("sagan.evaluation", "sagan.runs.evaluation"):
        monkeypatch.setattr(f"{module}.build_extractor", cheap_extractor)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, image_folder):
    options = {"training.ema_decay": 0.5, "evaluation.num_samples": 14, "evaluation.seed": 3, "evaluation.num_real": 9}
    return train_run(tmp_path_factory.mktemp("evaluate") / "run", image_folder, **options)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def evaluate(run, *options):
    """Evaluate, and return the record that this adds to the run."""
    before = read_records(run / "metrics.jsonl")
    assert main(["evaluate", str(run), "--batch_size", "5", *map(str, options)]) == 0
    *kept, record = read_records(run / "metrics.jsonl")
    assert kept == before
    return record


def values(record):
    return {k: v for k, v in record.items() if k not in ("step", "evaluation")}


def test_options_default_to_those_of_the_run(run, capsys):
    record = evaluate(run)
    protocol = record["evaluation"]["protocol"]
    assert (protocol["n_fake"], protocol["n_real"], protocol["seed"], protocol["split"]) == (14, 9, 3, "train")
    assert (protocol["step"], record["step"], protocol["size"]) == (2, 2, "32x32")
    assert (protocol["ema"], protocol["batch_norm"], protocol["extractor"]) == (True, "running", "cheap")
    assert set(values(record)) >= {"fid_cheap", "kid_mean_cheap", "precision_cheap", "recall_cheap"}
    said = capsys.readouterr().out
    table, stamp, notes = said.strip().split("\n\n")
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in table.splitlines()}
    assert set(shown) == {name for name in values(record) if "_std" not in name}
    assert float(shown["fid_cheap"].split()[0]) == pytest.approx(values(record)["fid_cheap"], rel=1e-4)
    assert shown["fid_cheap"].endswith("lower is better") and shown["recall_cheap"].endswith("higher is better")
    assert {"extractor: cheap", "seed: 3", "ema: yes", "batch_norm: running"} <= set(stamp.splitlines())
    assert "left out: intra-class FID" in notes


def test_options_of_the_command_line_win_and_are_stamped(run):
    known = evaluate(run)
    record = evaluate(run, "--num_samples", 12, "--seed", 4, "--ema", "false", "--num_real", 0, "--truncation", 0.5)
    protocol = record["evaluation"]["protocol"]
    assert (protocol["n_fake"], protocol["n_real"], protocol["seed"]) == (12, 24, 4)
    assert (protocol["ema"], protocol["truncation"]) == (False, 0.5)
    assert values(record)["fid_cheap"] != values(known)["fid_cheap"]


def test_standing_statistics_are_stamped_and_change_the_scores(run):
    known = evaluate(run)
    record = evaluate(run, "--standing_statistics", 3)
    assert record["evaluation"]["protocol"]["batch_norm"] == "standing over 3 batches of 5"
    assert values(record)["fid_cheap"] != values(known)["fid_cheap"]


def test_other_data_may_take_the_place_of_the_runs(run, image_folder, tmp_path, capsys):
    known = evaluate(run)
    flat = shutil.copytree(image_folder / "a", tmp_path / "flat")
    options = ("--data.path", flat, "--num_real", 0)
    assert main(["evaluate", str(run), *map(str, options)]) == 2  # the run has classes, and these have not
    assert "data.num_classes 3: " in capsys.readouterr().err
    record = evaluate(run, *options, "--data.num_classes", "null")
    assert record["evaluation"]["protocol"]["data"] != known["evaluation"]["protocol"]["data"]
    assert "the generator has 3 classes, the data 0" in record["evaluation"]["left_out"][-1]
    assert main(["evaluate", str(run), "--split", "test"]) == 2
    assert "a folder data set has only the split train" in capsys.readouterr().err


def test_data_that_are_missing_are_named_before_an_extractor_is_downloaded(run, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "build_extractor", lambda *args: pytest.fail("this may be a download"))
    assert main(["evaluate", str(run), "--data.path", "/nowhere"]) == 1
    assert "data.path /nowhere: does not exist" in capsys.readouterr().err


def test_a_checkpoint_is_recorded_in_its_run_and_an_export_nowhere(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    count = len(read_records(run / "metrics.jsonl"))
    assert main(["evaluate", str(run / "checkpoints" / "step-00000002.pt")]) == 0
    assert len(read_records(run / "metrics.jsonl")) == count + 1
    assert main(["export", str(run), "--out", "weights"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "weights/generator.safetensors"]) == 0
    assert "\nstep: 2\nema: yes\n" in capsys.readouterr().out
    assert len(read_records(run / "metrics.jsonl")) == count + 1
    assert not Path("metrics.jsonl").exists() and not Path("weights/metrics.jsonl").exists()


def test_the_checkpoint_of_another_run_is_recorded_there(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    count = len(read_records(run / "metrics.jsonl"))
    assert main(["evaluate", str(run), "--checkpoint", str(other / "checkpoints" / "step-00000002.pt")]) == 0
    assert len(read_records(run / "metrics.jsonl")) == count
    assert len(read_records(other / "metrics.jsonl")) == count + 1


def test_training_scores_as_this_command_does_whatever_its_precision(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr("sagan.training.evaluator.build_extractor", cheap_extractor)
    options = {"training.precision": "bf16", "evaluation.every": 2, "evaluation.num_samples": 14}
    run = Path(train_run(tmp_path / "bf16", image_folder, **options, **{"evaluation.batch_size": 5}))
    (own,) = (record for record in read_records(run / "metrics.jsonl") if "evaluation" in record)
    assert values(evaluate(run)) == values(own)


def test_scores_are_shown_where_they_cannot_be_recorded(run, capsys):
    shutil.rmtree(run / "samples")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    assert main(["evaluate", str(run)]) == 0
    said = capsys.readouterr().out
    assert "fid_cheap" in said and "warning: not recorded: " in said


def test_two_folders(image_folder, capsys):
    a, b = str(image_folder / "a"), str(image_folder / "b")
    assert main(["evaluate", "--real", a, "--fake", b, "--batch_size", "3"]) == 0
    assert "\nsplit: folder\nsize: 32x32\nn_real: 8\nn_fake: 8\n" in capsys.readouterr().out
    assert main(["evaluate", "--real", a, "--fake", a]) == 0
    assert abs(float(re.match(r"fid_cheap +(\S+)", capsys.readouterr().out)[1])) < 1e-6


def two_sizes(folder, arrays):
    """Write images, each in one of two sizes: as it is, or every pixel twice in both directions."""
    folder.mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array.repeat(1 + i % 2, 0).repeat(1 + i % 2, 1)).save(folder / f"{i}.png")
    return str(folder)


def test_folders_of_several_sizes_need_a_resolution(tmp_path, monkeypatch, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (2, 6, 32, 40, 3), np.uint8)
    real, fake = two_sizes(tmp_path / "real", noise[0]), two_sizes(tmp_path / "fake", noise[1])
    folders = ["evaluate", "--real", real, "--fake", fake]
    with monkeypatch.context() as patch:
        patch.setattr("sagan.evaluation.build_extractor", lambda *args: pytest.fail("this may be a download"))
        assert main(folders) == 1
        assert (
            f"--real {real}: {real}/1.png is 64x80, but {real}/0.png is 32x40; --resolution" in capsys.readouterr().err
        )
        assert main(["evaluate", "--real", real, "--fake", real, "--resolution", "[8,8,8]"]) == 2
        assert "--resolution [8, 8, 8]: expected N or [H, W]" in capsys.readouterr().err
    assert main([*folders, "--resolution", "[16,20]"]) == 0
    said = capsys.readouterr().out
    assert "\nsize: 16x20\n" in said and "images: centre-cropped and resized to 16x20" in said
    ready = [tmp_path / "real-ready", tmp_path / "fake-ready"]  # the same by the data source of training
    for folder, ours in zip((real, fake), ready, strict=True):
        data = open_data(DataConfig("folder", folder, [16, 20]))
        ours.mkdir()
        for i, image in enumerate(data.batch(torch.arange(len(data)))):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(ours / f"{i}.png")
    assert main(["evaluate", "--real", str(ready[0]), "--fake", str(ready[1])]) == 0
    again = capsys.readouterr().out
    assert again.split("\n\n")[0] == said.split("\n\n")[0] and "centre-cropped" not in again


def test_a_resolution_is_for_folders_only(run, capsys):
    assert main(["evaluate", str(run), "--resolution", "16"]) == 2
    assert "--resolution 16: applies only to --real and --fake" in capsys.readouterr().err


def test_two_processes_find_the_scores_of_one(run, tmp_path):
    alone = evaluate(run, "--standing_statistics", 2)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    before = read_records(run / "metrics.jsonl")
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SAGAN_CACHE": str(tmp_path / "other"),
    }
    arguments = ["evaluate", str(run), "--batch_size", "5", "--standing_statistics", "2", "--device", "cpu"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, *arguments],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [p.communicate(timeout=250) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    assert "fid_cheap" in said[0][0] and said[1][0] == ""  # the main process alone speaks
    *kept, together = read_records(run / "metrics.jsonl")
    assert kept == before
    assert together["evaluation"]["protocol"] == alone["evaluation"]["protocol"]
    ours, theirs = (torch.tensor(list(values(r).values())) for r in (alone, together))
    assert values(alone).keys() == values(together).keys()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)  # a batch of another size rounds otherwise


def test_a_score_without_the_attention_says_so(run, capsys):
    scores = [evaluate(run, "--seed", 1, *more) for more in ((), ("--ablate_layer", "all"))]
    assert "ablated" not in scores[0]["evaluation"]["protocol"]
    assert scores[1]["evaluation"]["protocol"]["ablated"] == "blocks.1.attention"
    assert main(["evaluate", str(run), "--ablate_layer", "blocks.7"]) == 2
    assert "--ablate_layer blocks.7: expected all, or one of" in capsys.readouterr().err
