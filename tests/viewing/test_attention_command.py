"""`sagan attention`: what it writes, what it says, and what it refuses."""

import base64
import json
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan import load_generator
from sagan.attention import capture_maps
from sagan.commands.app import main
from sagan.config import UserError
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from sagan.runs.networks import load_discriminator
from sagan.runtime.pictures import to_uint8
from sagan.viewing.capture import fixed_inputs, view_attention
from sagan.viewing.overlays import layer_pictures, view_queries
from sagan.viewing.picture_files import save_animation, title
from tests.helpers.tiny_runs import untrained_run

G, D = "generator-blocks.1.attention-generated", "discriminator-blocks.0.attention"
KIND = "model.{}.attention.kind"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, image_folder):
    """Return a run of three checkpoints with the weights of its data, runs of other kinds, and exported weights."""
    root = tmp_path_factory.mktemp("runs")
    untrained_run(root / "run", **{"data.source": "folder", "data.path": image_folder})
    content = load_checkpoint(find_checkpoint(root / "run"))
    for step in (10, 200):
        for network in ("generator", "generator_ema", "discriminator"):
            for name, tensor in content[network].items():
                if name.endswith("gamma"):
                    tensor.fill_(step / (1000 if network == "generator" else 500))
        save_checkpoint(root / "run", {**content, "step": step}, keep=3)
    untrained_run(root / "plain", **{"data.num_classes": 0, "data.source": "folder", "data.path": image_folder})
    untrained_run(root / "none", **{KIND.format("generator"): "none", KIND.format("discriminator"): "residual"})
    untrained_run(
        root / "gates",
        **{
            KIND.format("generator"): "residual",
            KIND.format("discriminator"): "cbam",
            "data.channels": 1,
            "data.resolution": "[32,64]",
            "model.discriminator.channels": 16,
        },
    )
    assert main(["export", str(root / "run"), "--out", str(root / "weights")]) == 0
    (root / "alone").mkdir()
    shutil.copy(root / "weights" / "generator.safetensors", root / "alone")
    return root


@pytest.fixture
def attention(runs, monkeypatch, capsys):
    """attention("run --num 2"): exit code, lines printed, and the error; run where `runs` are."""
    monkeypatch.chdir(runs)
    capsys.readouterr()

    def run(command):
        code = main(["attention", *command.split()])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out.splitlines(), said.err

    return run


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB"))


def test_it_draws_both_networks_and_prints_the_files(attention):
    code, said, _ = attention("run --num 2")
    expected = [f"{G}-map", f"{D}-generated-map", f"{D}-real-map"]
    assert (code, said) == (0, [f"run/attention/{name}-step-00000200.png" for name in expected])
    assert sorted(p.name for p in Path("run/attention").iterdir()) == sorted(Path(file).name for file in said)
    assert len({pixels(file).tobytes() for file in said}) == 3


@pytest.mark.parametrize("ema", [True, False])
def test_pictures_are_those_of_the_networks_for_fixed_latents(attention, ema, tmp_path):
    code, (file,), _ = attention(
        f"run --num 2 --seed 3 --ema {str(ema).lower()} --out {tmp_path} --network generator "
        "--layer blocks.1.attention --checkpoint step-00000010.pt"
    )
    generator = load_generator("run", checkpoint="step-00000010.pt", ema=ema)
    z, y = fixed_inputs(generator, 2, seed=3)
    (view,) = view_attention(generator, None, z, y)
    assert view.gamma == pytest.approx(0.02 if ema else 0.01)
    expected = layer_pictures(view, view_queries(view), title=title(view, generator))["map"]
    assert code == 0 and np.array_equal(pixels(file), np.asarray(expected))


def test_points_and_classes_may_be_chosen(attention, tmp_path):
    code, (of_g, of_d, of_real), _ = attention(f"run --queries 3,30 20,14 --classes [2] --num 3 --out {tmp_path}")
    generator, discriminator = load_generator("run"), load_discriminator("run")
    z, _ = fixed_inputs(generator, 3)
    views = view_attention(
        generator, discriminator, z, torch.tensor([2, 2, 2]), class_names=["a", "b", "c"]
    )  # of the folder
    for view, file in zip(views, (of_g, of_d), strict=True):
        expected = layer_pictures(view, [[(3, 30), (20, 14)]] * 3, title=title(view, generator))["map"]
        assert np.array_equal(pixels(file), np.asarray(expected))
    assert code == 0 and pixels(of_real).shape == pixels(of_d).shape


def test_real_images_are_of_the_chosen_classes(attention, image_folder, tmp_path):
    code, said, _ = attention(f"run --classes [1] --num 1 --network discriminator --out {tmp_path} --queries 0,0")
    shown = pixels(said[1])
    first = np.asarray(Image.open(sorted((image_folder / "b").iterdir())[0]).convert("RGB"))
    enlarged = first.repeat(6, 0).repeat(6, 1)
    marked = shown[-enlarged.shape[0] - 19 : -19, 3 : 3 + enlarged.shape[1]]  # frame below it, then the caption
    assert code == 0 and (marked[60:, 60:] == enlarged[60:, 60:]).all()


def test_unconditional_runs_exports_and_runs_without_their_data(attention, runs, tmp_path):
    code, said, _ = attention(f"plain --num 1 --out {tmp_path / 'a'}")
    assert code == 0 and [Path(file).name.split("-step")[0] for file in said] == [
        f"{G}-map",
        f"{D}-generated-map",
        f"{D}-real-map",
    ]
    code, said, _ = attention(f"weights/generator.safetensors --num 2 --out {tmp_path / 'b'}")
    assert code == 0 and len(said) == 3
    again = attention(f"run --num 2 --out {tmp_path / 'c'}")[1]
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(said, again, strict=True))
    code, said, _ = attention("alone/generator.safetensors --num 1")
    assert code == 0 and said[1:] == [f"attention/{G}-map-step-00000200.png"]
    assert said[0].startswith("no maps of the discriminator: alone/discriminator.safetensors: cannot be read")
    shutil.rmtree(runs / "attention")


def test_data_that_cannot_be_opened_are_an_error_only_where_somebody_gave_them(attention, image_folder, tmp_path):
    shutil.copytree("run", tmp_path / "run")
    file = find_checkpoint(tmp_path / "run")
    content = load_checkpoint(file)
    content["config"]["data"]["path"] = "gone"
    torch.save(content, file)
    code, said, _ = attention(f"{tmp_path / 'run'} --num 1")
    assert code == 0 and len(said) == 3
    assert said[0].startswith("no maps of real images: data.path gone")
    code, said, error = attention(f"{tmp_path / 'run'} --num 1 --data.path nowhere")
    assert code == 1 and not said and "data.path nowhere" in error
    code, said, error = attention("run --data.source shapes")
    assert code == 2 and "data.num_classes 3" in error
    code, said, error = attention("run --data.source shapes --data.num_classes null")
    assert code == 2 and "data.num_classes 3" in error
    code, said, _ = attention(f"{tmp_path / 'run'} --num 1 --data.path {image_folder}")
    assert code == 0 and len(said) == 3


def test_kinds_without_maps_are_named(attention):
    code, said, error = attention("none --num 1")
    assert (code, said[1:]) == (1, []) and error.endswith(
        "there is nothing to draw: the generator has attention kind none: no maps; "
        "discriminator blocks.0.attention: kind residual has no maps\n"
    )
    code, said, _ = attention("gates --num 1")
    assert code == 0 and said[0].startswith("no maps of real images: ")
    assert said[1] == "generator blocks.2.attention: kind residual has no maps"
    assert [Path(file).name for file in said[2:]] == [
        f"{D}-generated-{part}-step-00000000.png" for part in ("channels", "positions")
    ]


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_a_moving_picture_has_a_frame_for_each_checkpoint(attention, suffix, tmp_path):
    code, said, _ = attention(f"run --num 1 --network generator --animate {suffix} --out {tmp_path}")
    assert (code, said) == (0, [f"{tmp_path}/{G}-map.{suffix}"])
    moving = Image.open(said[0])
    assert moving.n_frames == 3
    queries = None
    for frame, step in reversed(list(enumerate((0, 10, 200)))):
        generator = load_generator("run", checkpoint=f"step-{step:08d}.pt")
        (view,) = view_attention(generator, None, *fixed_inputs(generator, 1))
        queries = queries or view_queries(view)  # of the newest
        expected = layer_pictures(view, queries, title=title(view, generator))["map"]
        moving.seek(frame)
        shown = np.asarray(moving.convert("RGB")).astype(int)[: expected.height, : expected.width]
        assert np.abs(shown - np.asarray(expected)).mean() < 8
        text = np.asarray(expected)[:17].astype(int)  # the line with the step
        assert np.abs(shown[:17] - text).mean() < 8 < np.abs(255 - text).mean()


def test_a_page_has_every_checkpoint_or_the_one_that_is_named(attention, tmp_path):
    file = tmp_path / "maps.html"
    code, said, _ = attention(f"run --num 2 --out {file}")
    assert (code, said) == (0, [str(file)])
    records = json.loads(re.search(r'id="records">(.*?)</script>', file.read_text(), flags=re.S)[1])
    (run,) = records["runs"]
    assert run["run"] == "run" and {tag.rpartition("/")[0] for tag in run["tags"]} == {
        "attention-maps/generator/blocks.1.attention",
        "attention-maps/discriminator/blocks.0.attention",
    }
    assert all([record["step"] for record in steps] == [0, 10, 200] for steps in run["tags"].values())
    newest = run["tags"]["attention-maps/generator/blocks.1.attention/generated"][-1]
    (view,) = view_attention(load_generator("run"), None, *fixed_inputs(load_generator("run"), 2))
    rows = np.frombuffer(zlib.decompress(base64.b64decode(newest["blobs"][3])), "<f4", 2 * 256).reshape(2, 256)
    np.testing.assert_array_equal(rows[1], view.maps[0].weights[1, 0].amax(-1))  # of image 1
    assert newest["header"]["gamma"] == pytest.approx(0.4) and newest["header"]["change"] == view.change.tolist()
    code, said, _ = attention(f"run --num 1 --network generator --checkpoint step-00000010.pt --out {file}")
    assert code == 0 and re.findall(r'"step":(\d+)', file.read_text()) == ["10"]


def test_the_scale_and_the_outline_may_be_chosen(attention, tmp_path):
    generator = load_generator("run")
    (view,) = view_attention(generator, None, *fixed_inputs(generator, 1))
    for scale, share in (("stretch", 0.5), ("shared", 0.9)):
        options = f"--num 1 --network generator --scale {scale} --outline {share} --out {tmp_path / scale}"
        code, (file,), _ = attention(f"run {options}")
        expected = layer_pictures(view, view_queries(view), title=title(view, generator), scale=scale, share=share)
        assert code == 0 and np.array_equal(pixels(file), np.asarray(expected["map"]))


def test_the_images_without_a_layer_are_drawn_beside_the_others(attention, tmp_path):
    generator = load_generator("run")
    z, y = fixed_inputs(generator, 2)
    with torch.no_grad():
        images = to_uint8(generator(z, y)).float()
        generator.blocks[1].attention.gamma.zero_()
        apart = (images - to_uint8(generator(z, y)).float()).abs().mean(1)
    for layer, words in (("blocks.1.attention", "blocks.1.attention"), ("all", "any attention")):
        code, said, _ = attention(f"run --num 2 --ablate_layer {layer} --out {tmp_path}")
        assert (code, said) == (
            0,
            [
                f"{tmp_path}/generator-without-{layer}-step-00000200.png",
                f"without {words}, pixels differ by {apart.mean():.2f} of 255 on average, {apart.max():.0f} at most",
            ],
        )
        picture = pixels(said[0])
        tile = images[0].byte().permute(1, 2, 0).numpy().repeat(6, 0).repeat(6, 1)
        found = [y for y in range(20, 60) if np.array_equal(picture[y : y + 192, 3 : 3 + 192], tile)]
        assert len(found) == 1 and apart.max() > 0


def test_the_discriminator_is_shown_images_of_ones_own(attention, image_folder, tmp_path):
    code, said, _ = attention(f"plain --images {image_folder} --num 3 --queries 5,9 --out {tmp_path}")
    assert code == 0 and [Path(file).name for file in said] == [f"{D}-own-map-step-00000000.png"]
    files = sorted(image_folder.glob("*/*.png"))
    chosen = [files[round(i)] for i in np.linspace(0, len(files) - 1, 3)]
    discriminator = load_discriminator("plain")
    real = torch.stack([torch.from_numpy(np.asarray(Image.open(f))).permute(2, 0, 1) for f in chosen])
    with torch.no_grad(), capture_maps(discriminator) as maps:
        discriminator(real / 127.5 - 1, None)
    drawn = pixels(said[0])
    generator = load_generator("plain")
    inputs = (*fixed_inputs(generator, 1), real / 127.5 - 1)
    view = view_attention(generator, discriminator, *inputs, source_of_real="own")[-1]
    assert torch.equal(view.maps[0].weights, maps["blocks.0.attention"][0].weights)
    expected = layer_pictures(view, [[(5, 9)]] * 3, title=title(view, load_generator("plain")))["map"]
    assert np.array_equal(drawn, np.asarray(expected))
    code, said, _ = attention(f"run --images {image_folder} --classes [2] --num 1 --out {tmp_path}")
    assert code == 0 and len(said) == 1
    code, _, error = attention(f"run --images {image_folder} --num 1 --out {tmp_path}")
    assert code == 2 and "--images" in error and "give --classes, or put the images in folders named like" in error


def test_maps_of_another_step_are_subtracted(attention, tmp_path):
    code, said, _ = attention(f"run --num 1 --minus run/checkpoints/step-00000010.pt --queries 3,30 --out {tmp_path}")
    assert code == 0 and Path(said[0]).name == f"{G}-map-minus-run-step-10-step-00000200.png" and len(said) == 2
    later, before = (load_generator("run", checkpoint=f"step-{step:08d}.pt") for step in (200, 10))
    names = ["a", "b", "c"]  # of the folder
    view, other = (view_attention(g, None, *fixed_inputs(g, 1), class_names=names)[0] for g in (later, before))
    maps = [replace(view.maps[0], weights=view.maps[0].weights - other.maps[0].weights, distribution=False)]
    heading = f"{title(view, later)}, minus run step 10"
    expected = layer_pictures(replace(view, maps=maps, minus=other), [[(3, 30)]], title=heading)["map"]
    assert np.array_equal(pixels(said[0]), np.asarray(expected))
    code, _, error = attention("run --minus plain")
    assert code == 2 and "--minus plain: its num_classes is 0, that of the run is 3; they must match" in error


def test_an_animation_that_its_format_cannot_hold_is_an_error(tmp_path):
    frames = [Image.new("RGB", (10, 16_384))] * 2
    with pytest.raises(UserError, match=r"loop.webp: 10x16384 pixels, but a webp has at most 16,383 on a side"):
        save_animation(frames, tmp_path / "loop", "webp")
    assert not list(tmp_path.iterdir())


WRONG = {
    "run --ablate_layer blocks.9": (
        2,
        "--ablate_layer blocks.9: expected all, or one of the attention layers: blocks.1",
    ),
    "run --ablate_layer all --out a.html": (2, "--ablate_layer all: makes a picture of one step"),
    "run --ablate_layer all --network discriminator": (2, "--network discriminator: does not apply to --ablate_layer"),
    "run --ablate_layer all --layer blocks.1": (2, "--layer blocks.1: does not apply to --ablate_layer"),
    "run --ablate_layer all --minus run": (2, "--ablate_layer all: shows generated images alone, without --minus"),
    "run --minus run --animate gif": (
        2,
        "--minus run: makes a picture of one step, so it cannot be combined with --animate",
    ),
    "run --ablate_layer all --data.source shapes": (2, "--data.source: --ablate_layer shows generated images only"),
    "run --images alone --data.source shapes": (2, "--data.source: does not apply to --images alone"),
    "run --images alone --seed 5": (2, "--seed 5: does not apply to --images alone, which D is shown alone"),
    "run --images alone --no-ema": (2, "--no-ema: does not apply to --images alone"),
    "run --images nowhere": (1, "--images nowhere: there is no such folder"),
    "run --images alone --network generator": (2, "--images alone: only the discriminator takes images"),
    "run --images alone --classes [0]": (1, "--images alone: "),
    "run --scale own": (2, "--scale own: expected one of zero, shared, stretch"),
    "run --outline 0": (2, "--outline 0.0: expected 0 < value <= 1"),
    "run --outline 1.5": (2, "--outline 1.5: expected 0 < value <= 1"),
    "run --animate webp --out a.html": (2, "--out a.html: a page always shows every checkpoint; omit --animate"),
    "": (2, "RUN is missing"),
    "run --queries": (2, "--queries: expected a value after it"),
    "run --queries 3": (2, "--queries 3: expected auto, or points y,x in pixels of the image"),
    "run --queries auto 3,4": (2, "--queries auto 3,4: expected auto, or points"),
    "run --queries 3,4 -1,2": (2, "-1,2: expected an option, --key value"),
    "run --queries 3,4 32,0": (2, "--queries 32,0: the images are 32x32, expected y up to 31 and x up to 31"),
    "gates --queries 32,0": (2, "--queries 32,0: the images are 32x64, expected y up to 31 and x up to 63"),
    "run --num 0": (2, "--num 0: expected a number above 0"),
    "run --classes []": (2, "--classes []: expected at least one class"),
    "run --classes [3]": (2, "--classes [3]: the generator has 3 classes, 0 to 2"),
    "plain --classes [0]": (2, "--classes [0]: the generator is unconditional"),
    "run --layer blocks.7": (
        2,
        "--layer blocks.7: there is no such attention layer; expected one of: "
        "blocks.1.attention in the generator; blocks.0.attention in the discriminator",
    ),
    "run --network generator --layer blocks.0.attention": (2, "--layer blocks.0.attention: there is no such"),
    "run --network both": (2, "--network both: expected one of generator, discriminator or null"),
    "run --network generator --data.path x": (2, "--data.path: --network generator shows generated images only"),
    "run --data.resolution 64": (2, "--data.resolution 64: the generator makes images of 32x32"),
    "run --animate mp4": (2, "--animate mp4: expected one of webp, gif or null"),
    "run --animate gif --checkpoint best": (2, "--checkpoint best: --animate gif draws every checkpoint"),
    "weights/generator.safetensors --animate gif": (2, "--animate gif: weights/generator.safetensors is one file"),
    "plain --animate webp": (1, "--animate webp: plain has 1 checkpoint, expected at least 2"),
    "alone/generator.safetensors --network discriminator": (1, "alone/discriminator.safetensors: cannot be read"),
    "nowhere": (1, "nowhere: neither a checkpoint file nor a run directory"),
    "run --out weights/generator.safetensors": (1, "is a file, expected a folder"),
}


@pytest.mark.parametrize("command", WRONG)
def test_mistakes_are_named(attention, command):
    code, said, error = attention(command)
    assert (code, error.count("\n"), said) == (WRONG[command][0], 1, [])
    assert WRONG[command][1] in error
