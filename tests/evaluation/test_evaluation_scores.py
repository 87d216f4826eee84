"""Scores as a whole: invariances, agreement with torch-fidelity, protocol, and what few images support."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.config import DataConfig, EvaluationConfig, UserError
from sagan.data import open_data
from sagan.evaluation import compare_folders, evaluate
from sagan.evaluation.evaluate import difference_of_classes
from sagan.evaluation.folder import FolderImages
from sagan.evaluation.scores import Scores
from tests.helpers.stand_ins import make_real, random_images
from tests.helpers.tiny_runs import cheap_extractor, cheap_forward

ROOT = Path(__file__).parents[2]


def sample(start, stop, y):
    return random_images(start, stop, y, seed=2)


def scores(n=300, classes=2, real=None, extractor=None, **config):
    real = real or make_real(classes=classes)
    config = EvaluationConfig(num_samples=n, **config)
    facts = {"ema": True, "batch_norm": "running"}
    return evaluate(
        sample, num_classes=classes, real=real, extractor=extractor or cheap_extractor(), config=config, protocol=facts
    )


def test_batch_size_changes_nothing(monkeypatch, tmp_path):
    results = []
    for batch_size in (1, 64, 1000):
        monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / str(batch_size)))
        results.append(scores(batch_size=batch_size).values)
    assert results[0].keys() == results[1].keys() == results[2].keys() and len(results[0]) >= 8
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-6, abs=1e-7)


RANK = """
import json, sys
import torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]), world_size=int(sys.argv[3]))
torch.set_num_threads(1)
from tests.helpers.stand_ins import random_images
import tests.evaluation.test_evaluation_scores as t
import sagan.evaluation.features as f
f.GATHER_ROWS = 64
asked = []
t.sample = lambda start, stop, y: asked.append((start, stop)) or random_images(start, stop, y, seed=2)
out = [t.scores(n=301), t.scores(n=301)]
assert out[0] == out[1]
print(json.dumps([out[0].values, min(a for a, b in asked), max(b for a, b in asked)]))
dist.barrier()
dist.destroy_process_group()  # else its threads may outlive the interpreter, which aborts
"""


@pytest.mark.slow  # test_evaluate_command.py has a quicker one
def test_the_number_of_processes_changes_nothing(tmp_path):
    """301 images are five batches. Each process makes its own batches alone, and gets the scores."""
    expected = scores(n=301).values
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SAGAN_CACHE": str(tmp_path / "ranks")}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "rendezvous"), str(rank), "2"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    (first, *part0), (second, *part1) = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert first == second == expected
    assert (part0, part1) == ([0, 128], [128, 301])


def write_folder(folder: Path, images: torch.Tensor) -> str:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")
    return str(folder)


def test_folders_agree_with_torch_fidelity_s_own_call(tmp_path):
    """The same extractor, registered with the library, through its one-call API on the same files."""
    import torch_fidelity

    class Cheap(torch_fidelity.FeatureExtractorBase):
        def __init__(self, name, features_list, **others):
            super().__init__(name, features_list)

        def forward(self, images):
            features, logits = cheap_forward(images)
            # The order of features_list follows the hash seed of the process.
            return tuple({"features": features, "logits": logits}[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list():
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled():
            return False

    torch_fidelity.register_feature_extractor("cheap-for-test", Cheap)
    real = write_folder(tmp_path / "real", random_images(0, 240, seed=1))
    # Brighter fakes, for an FID well above 0: the library keeps the mean in float32, which alone is an error of 1e-8.
    fake = write_folder(tmp_path / "fake", random_images(0, 200, torch.full((200,), 6), seed=2))
    theirs = torch_fidelity.calculate_metrics(
        input1=fake,
        input2=real,
        feature_extractor="cheap-for-test",
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=200,
    )
    ours = compare_folders(real, fake, cheap_extractor(name="inception")).values
    assert min(ours.pop("density"), ours.pop("coverage")) > 0  # which the library does not have
    assert ours == pytest.approx(
        {
            "fid": theirs["frechet_inception_distance"],
            "kid_mean": theirs["kernel_inception_distance_mean"],
            "kid_std": theirs["kernel_inception_distance_std"],
            "is_mean": theirs["inception_score_mean"],
            "is_std": theirs["inception_score_std"],
            "precision": theirs["precision"],
            "recall": theirs["recall"],
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_folder_against_itself(tmp_path, batch_size):
    folder = write_folder(tmp_path / "images", random_images(0, 20))
    out = compare_folders(folder, folder, cheap_extractor(), batch_size)
    assert out.values["fid_cheap"] == pytest.approx(0, abs=1e-5)
    assert out.values["precision_cheap"] == out.values["recall_cheap"] == out.values["coverage_cheap"] == 1
    assert out.protocol["data"] == out.protocol["fake_data"]


def test_a_folder_is_compared_as_training_reads_it(tmp_path):
    """The same files, and the same pixels: see-through ones on white, 16 bits scaled, the first frame of a GIF."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    Image.fromarray(noise).save(tmp_path / "alpha.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(noise[..., 0]).save(tmp_path / "first.gif", save_all=True, append_images=[Image.new("L", (32, 32))])
    Image.fromarray(noise[..., :3]).convert("CMYK").save(tmp_path / "print.tif")
    (tmp_path / "._print.tif").write_bytes(b"metadata of a file manager")
    trained = open_data(DataConfig("folder", str(tmp_path), 32))
    compared = FolderImages(tmp_path, "--real")
    assert len(compared) == len(trained) == 4
    assert torch.equal(compared.batch(torch.arange(4)), trained.batch(torch.arange(4)))


def test_folders_that_cannot_be_compared_are_named(tmp_path):
    good = write_folder(tmp_path / "good", random_images(0, 4))
    for make, expected in (
        (lambda d: None, "--fake .*no such folder"),
        (lambda d: d.mkdir(), "--fake .*found 0 images"),
        (
            lambda d: write_folder(d, random_images(0, 3)) and (d / "0001.png").write_bytes(b"x"),
            "cannot read .*0001.png: not",
        ),
        (lambda d: write_folder(d, random_images(0, 3)) and Image.new("RGB", (9, 7)).save(d / "z.png"), "z.png is 7x9"),
    ):
        bad = tmp_path / str(len(list(tmp_path.iterdir())))
        make(bad)
        with pytest.raises(UserError, match=expected):
            compare_folders(good, str(bad), cheap_extractor())


def test_names_carry_the_extractor_unless_it_is_inception():
    plain = scores(extractor=cheap_extractor(name="inception")).values
    other = scores(extractor=cheap_extractor(name="efficientnet-lite0")).values
    assert set(plain) == {
        "fid",
        "kid_mean",
        "kid_std",
        "is_mean",
        "is_std",
        "precision",
        "recall",
        "density",
        "coverage",
        "intra_fid",
        "intra_fid_n",
    } - {"kid_std"}
    assert set(other) == {f"{name}_efficientnet_lite0" for name in plain}


def test_the_line_carries_the_protocol():
    real = make_real()
    out = scores(real=real, num_real=200, seed=7)
    line = out.line()
    assert "\n" not in line
    for part in (
        f"fid_cheap {out.values['fid_cheap']:.5g}",
        "extractor cheap, weights cccccccccccc,",
        "resize 4x4 mean",
        f"data {real.fingerprint[:12]},",
        "split train",
        "n_real 200",
        "n_fake 300",
        "seed 7",
        "ema yes",
        "batch_norm running",
        "torch-fidelity 0.",
    ):
        assert part in line
    record = json.loads(json.dumps(out.record()))
    assert record["fid_cheap"] == out.values["fid_cheap"]
    assert record["evaluation"]["protocol"]["data"] == real.fingerprint
    assert set(record["evaluation"]["intra_fid"]) == {"class 0", "class 1"}


def test_the_report_is_a_table_with_the_protocol_below_it():
    values = {"fid_x_net": 12.345678, "kid_mean_x_net": 0.5, "kid_std_x_net": 0.0123, "is_mean": 7.0, "is_std": 0.25}
    values |= {"intra_fid_n": 300.0, "agreement_chance": 0.2}
    out = Scores(values, {"extractor": "x-net", "weights": "c" * 64, "ema": True}, left_out=["recall: no"])
    assert out.report().splitlines() == [
        "fid_x_net         12.346       lower is better",
        "kid_mean_x_net    0.5 ± 0.012  lower is better",
        "is_mean           7 ± 0.25     higher is better",
        "agreement_chance  0.2          neither direction is better",
        "",
        "extractor: x-net",
        "weights: cccccccccccc",
        "ema: yes",
        "intra_fid_n: 300",
        "",
        "left out: recall: no",
    ]
    assert Scores({}, {"seed": 0}).report() == "no score\n\nseed: 0"


def test_intra_class_fid_uses_the_labels_the_images_were_made_with():
    """A generator that exchanges its classes: everything else stays, intra-class FID does not."""
    real, config = make_real(), EvaluationConfig(num_samples=300)
    given = dict(num_classes=2, real=real, extractor=cheap_extractor(), config=config)
    right = evaluate(lambda a, b, y: random_images(a, b, 10 * y, seed=2), **given).values
    wrong = evaluate(lambda a, b, y: random_images(a, b, 10 * (1 - y), seed=2), **given).values
    assert wrong["intra_fid_cheap"] > 1.1 * right["intra_fid_cheap"]


@pytest.mark.parametrize(
    "n, present, missing",
    [
        (1, set(), {"fid", "kid_mean", "is_mean", "precision", "density", "intra_fid"}),
        (3, {"fid", "kid_mean"}, {"is_mean", "precision", "density", "intra_fid"}),
        (5, {"fid", "kid_mean", "precision"}, {"is_mean", "density", "intra_fid"}),
        (50, {"fid", "kid_mean", "precision", "density"}, {"is_mean", "intra_fid"}),
        (120, {"fid", "kid_mean", "precision", "is_mean"}, {"intra_fid"}),
        (300, {"fid", "kid_mean", "precision", "is_mean", "intra_fid"}, set()),
    ],
)
def test_what_few_images_do_not_support_is_left_out_with_a_word(n, present, missing):
    out = scores(n=n, extractor=cheap_extractor(name="inception"))
    assert present <= set(out.values) and not missing & set(out.values)
    assert not any(math.isnan(value) for value in out.values.values())
    words = {"fid": "FID and KID", "is_mean": "inception score", "precision": "precision", "intra_fid": "intra-class"}
    words["density"] = "density"
    for name, word in words.items():
        assert any(text.startswith(word) for text in out.left_out) == (name in missing)
    assert any("fewer than the 12 features" in text for text in out.warnings) == (n < 12)


def test_without_logits_or_classes_the_rest_remains():
    extractor = cheap_extractor(logits_dim=0, forward=lambda x: (cheap_forward(x)[0], None))
    out = scores(classes=0, extractor=extractor)
    assert {"fid_cheap", "precision_cheap"} <= set(out.values)
    assert [text for text in out.left_out if not text.startswith("KID")] == [
        "inception score: cheap has no class logits"
    ]


def test_generator_and_data_of_different_classes_have_no_intra_class_fid():
    out = scores(classes=3, real=make_real(classes=2))
    assert "intra_fid_cheap" not in out.values
    assert "intra-class FID: the generator has 3 classes, the data 2" in out.left_out
    given = dict(num_classes=2, real=make_real(), extractor=cheap_extractor(), config=EvaluationConfig(num_samples=300))
    out = evaluate(sample, class_names=["class 0", "cat"], **given)
    assert "intra_fid_cheap" not in out.values
    assert "intra-class FID: class 1 is 'cat' of the generator and 'class 1' of the data" in out.left_out
    assert "intra_fid_cheap" in evaluate(sample, class_names=["class 0", "class 1"], **given).values
    assert difference_of_classes(2, ["crane"] * 2, ["crane (0)", "crane (1)"]) == ""  # of an older version
