"""`sagan sample --truncation_curve`: its rows are the scores of `sagan evaluate` at each truncation."""

import csv

import numpy as np
import pytest
from PIL import Image

import sagan.evaluation
import sagan.runs.evaluation
from sagan import evaluate
from sagan.commands.app import main
from sagan.sampling import truncation
from sagan.sampling.truncation import MEASURES, TRUNCATIONS, as_table
from tests.helpers.tiny_runs import cheap_extractor, train_run


@pytest.fixture
def run(tmp_path, image_folder, monkeypatch):
    for module in (sagan.evaluation, sagan.runs.evaluation):
        monkeypatch.setattr(module, "build_extractor", cheap_extractor)
    return train_run(tmp_path / "run", image_folder)


def test_rows_are_the_scores_at_each_truncation(run, image_folder, tmp_path, capsys):
    capsys.readouterr()
    options = ["--num", "12", "--extractor.name", "efficientnet-lite0", "--out", str(tmp_path / "curve.png")]
    assert main(["sample", run, "--truncation_curve", str(image_folder), *options]) == 0
    said = capsys.readouterr().out
    with open(tmp_path / "curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["truncation"]) for row in rows] == list(TRUNCATIONS)
    protocol = ["num_samples=12", "num_real=12", "extractor.name=efficientnet-lite0"]
    for row in (rows[1], rows[-1]):
        scores = evaluate(run, [*protocol, f"truncation={row['truncation']}"], device="cpu").values
        for name in MEASURES:
            key = next(k for k in row if k.startswith(f"{name}_"))
            assert float(row[key]) == pytest.approx(scores[key], rel=1e-5)
    assert len({row[k] for row in rows for k in row if k.startswith("fid")}) == len(TRUNCATIONS)
    scored = ({n: float(v) for n, v in zip(MEASURES, list(row.values())[1:], strict=True)} for row in rows)
    table = as_table(list(zip(TRUNCATIONS, scored, strict=True)))
    assert said.startswith(f"{tmp_path}/curve.png\n{tmp_path}/curve.csv\n{table}\n") and "     none  " in table
    assert np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).std() > 10


def test_its_protocol_says_which_statistics_of_batch_norm_and_whose_classes(run, image_folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(truncation, "evaluate", lambda *_, **given: seen.append(given) or given["fails"])
    options = [
        "--num",
        "12",
        "--extractor.name",
        "efficientnet-lite0",
        "--standing_statistics",
        "2",
        "--batch_size",
        "4",
    ]
    with pytest.raises(KeyError, match="fails"):
        main(["sample", run, "--truncation_curve", str(image_folder), *options])
    assert seen[0]["protocol"]["batch_norm"] == "standing over 2 batches of 4" and len(seen[0]["class_names"]) == 3


WRONG = {
    "nowhere": (1, "--truncation_curve nowhere: no such folder; expected one with images, or one of"),
    "shapes --truncation 0.5": (2, "--truncation_curve shapes: cannot be combined with --truncation 0.5"),
    "shapes --classes [0]": (2, "--truncation_curve shapes: cannot be combined with --classes [0]"),
    "shapes --out curves": (2, "--out curves: --truncation_curve makes one picture, so expected a name that ends in"),
}


def test_too_few_images_are_refused(run, image_folder, capsys):
    assert main(["sample", run, "--truncation_curve", str(image_folder), "--num", "3"]) == 2
    assert "3 generated images and 24 real ones, at least 4 of each needed" in capsys.readouterr().err


@pytest.mark.parametrize("options", WRONG)
def test_mistakes_are_named_before_anything_is_loaded(options, capsys):
    code, words = WRONG[options]
    assert main(["sample", "no-run", "--truncation_curve", *options.split()]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
