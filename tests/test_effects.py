"""What is asked of a verb or of a function of the package reaches the generator, the scores and the files."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sagan
import sagan.runs.evaluation
from sagan.benchmark import attention as bench_attention
from sagan.commands.app import main
from sagan.evaluation import scores
from sagan.evaluation.metrics import density_coverage
from sagan.models.image_sampler import image_sampler
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from sagan.runs.networks import load_discriminator
from sagan.runtime.draws import labels, latents
from sagan.sampling import Draw, slerp
from sagan.sampling.images import between_latents
from sagan.viewing.capture import fixed_inputs, view_attention
from sagan.viewing.overlays import layer_pictures, view_queries
from tests.helpers.hub import RecordedApi
from tests.helpers.tiny_runs import cheap_extractor, untrained_run

OLDER = "step-00000000.pt"


@pytest.fixture
def run(tmp_path, image_folder, monkeypatch):
    """Return a run with two checkpoints, two attention layers that count, and an extractor that costs nothing."""
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sagan.runs.evaluation, "build_extractor", cheap_extractor)
    options = {
        "data.source": "folder",
        "data.path": image_folder,
        "model.generator.channels": 8,
        "model.generator.attention.resolutions": [8, 16],
    }
    run = untrained_run(tmp_path / "run", **options)
    content = load_checkpoint(find_checkpoint(run))
    for block in (0, 1):
        content["generator_ema"][f"blocks.{block}.attention.gamma"].fill_(3.0)
    save_checkpoint(tmp_path / "run", {**content, "step": 0}, keep=9)
    content["generator_ema"]["to_image.bias"] += 1
    save_checkpoint(tmp_path / "run", {**content, "step": 5}, keep=9)
    return run


def score(run, *protocol, **options):
    return sagan.evaluate(run, ["num_samples=12", *protocol], **options).values["fid_cheap"]


def test_scores_are_of_the_checkpoint_and_the_layers_that_are_asked_for(run):
    found = {score(run), score(run, ablate_layer="all"), score(run, ablate_layer="blocks.0.attention")}
    assert len(found) == 3 and score(run, checkpoint=OLDER) not in found


def test_scores_are_of_the_draws_that_are_asked_for(run, monkeypatch):
    seen, drawn = [], []
    sampler, y = sagan.runs.evaluation.image_sampler, labels
    monkeypatch.setattr(sagan.runs.evaluation, "image_sampler", lambda g, *a: seen.append(a) or sampler(g, *a))
    module = importlib.import_module("sagan.evaluation.evaluate")
    monkeypatch.setattr(module, "labels", lambda *a: drawn.append(a[0]) or y(*a))
    score(run, "seed=4", "truncation=0.5")
    assert seen == [(4, 0.5)] and drawn == [4]


def test_truncation_draws_anew_what_is_too_large():
    plain, cut = latents(0, "sample", 0, 200, 8), latents(0, "sample", 0, 200, 8, 1.0)
    inside = plain.abs() <= 1
    assert torch.equal(cut[inside], plain[inside]) and cut.abs().max() < 1
    assert abs(cut.var() - 0.2911) < 0.02  # of a normal truncated at one standard deviation


def test_interpolations_go_along_the_arc_between_truncated_draws(run):
    generator, seen = sagan.load_generator(run), []
    generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    between_latents(generator, [0], 3, Draw(seed=2, truncation=0.5))
    a, b = latents(2, "sample", 0, 2, 8, 0.5)
    torch.testing.assert_close(torch.cat(seen), slerp(a, b, torch.tensor([[0.0], [0.5], [1.0]])))


def test_samples_from_python_are_truncated(run):
    generator = sagan.load_generator(run)
    with torch.no_grad():
        expected = image_sampler(generator, 0, 0.1)(0, 4, torch.arange(4) % 3)
    found = sagan.sample(generator, 4, truncation=0.1)
    assert torch.equal(found, expected) and not torch.equal(found, sagan.sample(generator, 4))


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_figure_is_of_the_layer_the_number_the_seed_and_the_network_that_are_asked_for(run, network):
    generator, discriminator = sagan.load_generator(run), load_discriminator(run)
    views = view_attention(generator, discriminator, *fixed_inputs(generator, 3, 2))
    view = [v for v in views if v.network == network][-1]
    title = f"step 5: {network} {view.layer}"
    expected = next(iter(layer_pictures(view, view_queries(view), title=title).values()))
    found = sagan.attention_figure(run, layer=view.layer, network=network, num=3, seed=2)
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_pictures_are_of_the_layer_that_is_asked_for(run, tmp_path):
    assert main(["attention", run, "--layer", "blocks.1.attention", "--num", "1", "--out", str(tmp_path / "maps")]) == 0
    assert {path.name.split("-generated")[0] for path in (tmp_path / "maps").iterdir()} == {
        "generator-blocks.1.attention"
    }


def test_an_export_is_of_the_checkpoint_that_is_asked_for(run, tmp_path):
    for name, options in {"newest": [], "older": ["--checkpoint", OLDER]}.items():
        assert main(["export", run, "--out", str(tmp_path / name), *options]) == 0
    newest, older = (load_file(tmp_path / n / "generator.safetensors")["to_image.bias"] for n in ("newest", "older"))
    torch.testing.assert_close(newest, older + 1)


def test_an_upload_is_of_the_checkpoint_that_is_asked_for(run, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")
    monkeypatch.setattr("huggingface_hub.HfApi", RecordedApi)
    for name, options in {"newest": [], "older": ["--checkpoint", OLDER]}.items():
        monkeypatch.setattr(RecordedApi, "folder", tmp_path / name, raising=False)
        assert main(["push", run, "user/name", *options]) == 0
    newest, older = (load_file(tmp_path / n / "generator.safetensors")["to_image.bias"] for n in ("newest", "older"))
    torch.testing.assert_close(newest, older + 1)


def test_the_name_of_a_picture_has_every_option_that_changes_it(run):
    """Two pictures that differ have names that differ, so neither is written over."""
    words = ["--num 3", "--classes 1", "--truncation 0.5", "--captions false", "--standing_statistics 2", "--ema false"]
    words += ["--interpolate z", "--seed 4", f"--checkpoint {OLDER}", "--interpolate z --num 3"]
    found = {}
    for option in ["", *words]:
        assert main(["sample", run, *option.split()]) == 0
        made = set((Path(run) / "samples").iterdir()) - {path for path, _ in found.values()}
        found[option] = made.pop(), option
        assert not made
    pictures = [path.read_bytes() for path, _ in found.values()]
    assert len(set(pictures)) == len(words) + 1


def test_the_cost_of_attention_is_measured_in_the_precision_that_is_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(bench_attention, "attention_costs", lambda *a, **options: seen.append(options) or [])
    monkeypatch.setattr(bench_attention, "markdown_table", lambda rows: "")
    words = ["bench", "--attention", "--kinds", "[se]", "--sizes", "[8]", "--channels", "16", "--batch", "2"]
    for precision in ("float32", "bf16"):
        assert main([*words, "--precision", precision, "--repeats", "3"]) == 0
    assert [(o["dtype"], o["repeats"]) for o in seen] == [(torch.float32, 3), (torch.bfloat16, 3)]


def test_at_most_ten_thousand_images_are_compared_as_a_manifold():
    values = torch.arange(20_001.0)[:, None]
    found = scores.some(values, "real")
    assert len(found) == len(found.unique()) == scores.MAX_MANIFOLD and abs(found.mean() - 10_000) < 300
    assert torch.equal(found, scores.some(values, "real")) and not torch.equal(found, scores.some(values, "fake"))


def test_an_image_on_the_edge_of_a_neighbourhood_is_outside():
    """The radius of each real image is 1, and the neighbours of the generated one lie exactly there."""
    real, fake = torch.arange(10.0)[:, None], torch.tensor([[1.0]])
    assert density_coverage(real, fake, neighbourhood=1) == pytest.approx((1.0, 0.1))
