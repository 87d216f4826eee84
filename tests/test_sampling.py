"""What `sagan sample` makes: which image stands where, in which form."""

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

from sagan import load_generator
from sagan.commands.app import main
from sagan.commands.sample import PICTURES, Options, nearest_source, picture_name
from sagan.config import DataConfig, ExtractorConfig, UserError
from sagan.data import MemoryDataset, open_data
from sagan.runtime.draws import latents
from sagan.runtime.pictures import FORMATS, from_pil, image_grid, save_picture, to_pil, to_uint8
from sagan.sampling import by_class, data_like, folder_names, nearest, slerp
from tests.helpers.tiny_runs import cheap_extractor, train_run, untrained_run

FRAME = 2  # white pixels around each image of a grid


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("sampling") / "run")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("twelve") / "run", **{"data.num_classes": 12})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Unconditional, greyscale, 32 high and 64 wide."""
    options = {"data.num_classes": 0, "data.channels": 1, "data.resolution": "[32,64]"}
    return untrained_run(tmp_path_factory.mktemp("plain") / "run", **options)


@pytest.fixture(scope="module")
def named(tmp_path_factory, image_folder):
    """Return a run on images of the classes bird, cat and "d o g"."""
    root = tmp_path_factory.mktemp("named")
    for old, new in zip("abc", ("bird", "cat", "d o g"), strict=True):
        (root / "data" / new).parent.mkdir(exist_ok=True)
        (root / "data" / new).symlink_to(image_folder / old)
    return train_run(root / "run", root / "data")


def sample(*arguments):
    assert main(["sample", *map(str, arguments)]) == 0


@torch.no_grad()
def expected(run, z, y):
    """Return the generator's own images, (n, H, W, C)."""
    return to_uint8(load_generator(run)(z, y)).permute(0, 2, 3, 1).numpy()


def draw(run, count, seed=0):
    return latents(seed, "sample", 0, count, load_generator(run).z_dim)


def cells(file, size=(32, 32)):
    """Return the images of a grid, (rows, columns, H, W, C), from pixels that were made into squares."""
    pixels = np.array(Image.open(file))
    for scale in range(20, 0, -1):
        small = pixels[::scale, ::scale]
        height, width = (s + FRAME for s in size)
        rows, columns = (small.shape[0] - FRAME) // height, (small.shape[1] - FRAME) // width
        fits = small.shape[:2] == (rows * height + FRAME, columns * width + FRAME)
        if fits and np.array_equal(small.repeat(scale, 0).repeat(scale, 1), pixels):
            squares = small[FRAME:, FRAME:].reshape(rows, height, columns, width, 3)
            return squares.swapaxes(1, 2)[:, :, : size[0], : size[1]]
    raise AssertionError(f"{file} is no grid of {size}")


def close(a, b):
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_the_grid_has_a_class_in_each_row(run, tmp_path, capsys):
    sample(run, "--no-captions")
    file = Path(run) / "samples" / "grid-step-00000000-seed-0-bare.png"
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    grid = cells(file)
    assert grid.shape[:2] == (3, 10)
    images = expected(run, draw(run, 30), torch.arange(30) % 3)
    for index in (0, 1, 2, 3, 29):
        assert close(grid[index % 3, index // 3], images[index])


def test_classes_choose_the_rows(run, tmp_path):
    sample(run, "--classes", "2,0", "--num", 5, "--out", tmp_path / "g.png", "--no-captions")
    grid = cells(tmp_path / "g.png")
    assert grid.shape[:2] == (2, 3)
    images = expected(run, draw(run, 5), torch.tensor([2, 0, 2, 0, 2]))
    assert close(grid[:, 0], images[:2]) and close(grid[0, 2], images[4])
    assert (grid[1, 2] == 255).all()  # the sixth is not there


def test_fewer_images_than_classes_take_a_row_each(run, tmp_path):
    sample(run, "--num", 2, "--out", tmp_path / "g.png", "--no-captions")
    assert cells(tmp_path / "g.png").shape[:2] == (2, 1)


def test_many_classes_show_ten_unless_more_are_named(twelve, tmp_path):
    sample(twelve, "--out", tmp_path / "ten.png", "--no-captions")
    assert cells(tmp_path / "ten.png").shape[:2] == (10, 10)
    names = ",".join(map(str, range(12)))
    sample(twelve, "--classes", names, "--num", 12, "--out", tmp_path / "all.png", "--no-captions")
    assert cells(tmp_path / "all.png").shape[:2] == (12, 1)
    sample(twelve, "--num", 24, "--out", tmp_path / "all.npz")
    assert np.load(tmp_path / "all.npz")["labels"].tolist() == list(range(12)) * 2


def test_an_image_depends_on_seed_and_index_alone(run, tmp_path):
    sample(run, "--num", 12, "--batch_size", 12, "--out", tmp_path / "a.npz")
    sample(run, "--num", 7, "--batch_size", 3, "--out", tmp_path / "b")
    sample(run, "--num", 7, "--seed", 1, "--out", tmp_path / "c.npz")
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["images"].shape == (12, 32, 32, 3) and arrays["images"].dtype == np.uint8
    files = sorted((tmp_path / "b").rglob("*.png"), key=lambda f: f.name)
    assert [f.relative_to(tmp_path / "b").as_posix() for f in files] == [f"{i % 3}/{i:05d}.png" for i in range(7)]
    assert close(np.stack([np.array(Image.open(f)) for f in files]), arrays["images"][:7])
    assert not close(np.load(tmp_path / "c.npz")["images"], arrays["images"][:7])


def test_a_folder_with_other_images_is_left_alone(run, tmp_path):
    sample(run, "--num", 4, "--out", tmp_path / "a")
    sample(run, "--num", 6, "--out", tmp_path / "a")  # the same four and two more
    assert main(["sample", run, "--num", "4", "--out", str(tmp_path / "a")]) == 2
    assert main(["sample", run, "--num", "9", "--classes", "1", "--out", str(tmp_path / "a")]) == 2
    assert len(list((tmp_path / "a").rglob("*.png"))) == 6


@pytest.mark.parametrize("name", ["0/00000.png", "1/00004.png"])
def test_a_folder_keeps_the_pictures_that_it_has(run, tmp_path, capsys, name):
    sample(run, "--num", 6, "--out", tmp_path / "a")
    Image.fromarray(np.full((32, 32, 3), 255, np.uint8)).save(tmp_path / "a" / name)
    before = {file: file.read_bytes() for file in (tmp_path / "a").rglob("*.png")}
    capsys.readouterr()
    assert main(["sample", run, "--num", "6", "--out", str(tmp_path / "a")]) == 2
    assert f"--out {tmp_path / 'a'}: holds another image as {name}; choose another folder" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (tmp_path / "a").rglob("*.png")} == before


def test_truncation_and_averages_change_the_images(run, tmp_path):
    sample(run, "--num", 3, "--out", tmp_path / "a.npz")
    images = np.load(tmp_path / "a.npz")["images"]
    for i, options in enumerate((["--truncation", 0.2], ["--ema", "false"], ["--standing_statistics", 2])):
        sample(run, "--num", 3, *options, "--out", tmp_path / f"{i}.npz")
        assert not np.array_equal(np.load(tmp_path / f"{i}.npz")["images"], images), options


def test_rows_lead_from_one_latent_vector_to_another(run, tmp_path):
    sample(run, "--interpolate", "z", "--num", 4, "--batch_size", 3, "--out", tmp_path / "z.png", "--no-captions")
    grid, z = cells(tmp_path / "z.png"), draw(run, 6)
    assert grid.shape[:2] == (3, 4)
    assert close(grid[:, 0], expected(run, z[::2], torch.arange(3)))
    assert close(grid[:, 3], expected(run, z[1::2], torch.arange(3)))
    assert not close(grid[0, 1], grid[0, 0])


def test_rows_lead_from_one_class_to_the_next(run, tmp_path):
    sample(
        run, "--interpolate", "classes", "--classes", "0,2,1", "--num", 3, "--out", tmp_path / "c.png", "--no-captions"
    )
    grid, z = cells(tmp_path / "c.png"), draw(run, 1).expand(2, -1)
    assert grid.shape[:2] == (2, 3)
    assert close(grid[:, 0], expected(run, z, torch.tensor([0, 2])))
    assert close(grid[:, 2], expected(run, z, torch.tensor([2, 1])))
    assert not close(grid[:, 0], grid[:, 2])
    half = torch.tensor([[0.5, 0, 0.5], [0, 0.5, 0.5]])
    assert close(grid[:, 1], expected(run, z, half))


def test_slerp_keeps_to_the_sphere():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    way = slerp(a, b, torch.tensor([[0.0], [1 / 3], [0.5], [1.0]]))
    root = 2**0.5
    torch.testing.assert_close(way, torch.tensor([[2.0, 0.0], [3**0.5, 1.0], [root, root], [0.0, 2.0]]))


def test_slerp_between_vectors_on_one_line_is_straight():
    t = torch.tensor([[0.0], [0.25], [1.0]])
    for end in (4.0, -4.0):
        way = slerp(torch.tensor([2.0]), torch.tensor([end]), t)
        torch.testing.assert_close(way, 2 + t * (end - 2))


def test_names_of_classes_become_names_of_files():
    names = ["cat/dog", "con", "nul.txt", "console", "half \ud800", "byte \udcff", "", "."]
    found = folder_names(names)
    assert found == ["cat_dog", "_con", "_nul.txt", "console", "half _", "byte \udcff", "_", "_-2"]
    assert all(os.fsencode(name) for name in found)


def test_unconditional_greyscale_images_of_another_shape(plain, tmp_path):
    sample(plain, "--num", 13, "--out", tmp_path / "g.png", "--no-captions")
    grid = cells(tmp_path / "g.png", (32, 64))
    assert grid.shape[:2] == (2, 10)
    images = expected(plain, draw(plain, 13), None)
    assert close(grid.reshape(20, 32, 64, 3)[:13], images.repeat(3, axis=3))
    sample(plain, "--num", 2, "--out", tmp_path / "folder")
    assert [f.name for f in sorted((tmp_path / "folder").iterdir())] == ["00000.png", "00001.png"]
    one = Image.open(tmp_path / "folder" / "00001.png")
    assert one.mode == "L" and close(np.array(one), images[1, :, :, 0])
    sample(plain, "--num", 2, "--out", tmp_path / "a.npz")
    assert list(np.load(tmp_path / "a.npz")) == ["images"]
    sample(plain, "--interpolate", "z", "--num", 2, "--out", tmp_path / "z.png", "--no-captions")
    assert cells(tmp_path / "z.png", (32, 64)).shape[:2] == (10, 2)


def test_nearest_agrees_with_all_distances():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (300, 1, 4, 4), generator=generator, dtype=torch.uint8)
    data = MemoryDataset(images, torch.zeros(300).long(), [], "noise")
    queries = images[[3, 200]].clone()
    queries[1, 0, 0, 0] ^= 1  # not quite the same
    spaces = (lambda x: x.flatten(1).float(), lambda x: x.float().mean((2, 3)))
    found = nearest(queries, data, spaces, batch_size=7)
    for space, indices in zip(spaces, found, strict=True):
        distances = (space(queries)[:, None] - space(images)[None]).norm(dim=2)
        torch.testing.assert_close(distances.gather(1, indices), distances.sort(1).values[:, :5])
    assert found[0][:, 0].tolist() == [3, 200]


def test_samples_stand_beside_their_nearest_images(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sagan.evaluation.build_extractor", cheap_extractor)
    sample(run, "--num", 6, "--out", tmp_path / "data")  # the samples themselves are the data: each is its own nearest
    sample(
        run,
        "--num",
        2,
        "--nearest",
        tmp_path / "data",
        "--extractor.name",
        "vgg16",
        "--out",
        tmp_path / "n.png",
        "--no-captions",
    )
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"{tmp_path / 'n.png'}: samples (left)") and "by pixels (middle)" in said and "vgg16" in said
    pixels = np.array(Image.open(tmp_path / "n.png"))
    scale = pixels.shape[0] // (2 * 34 + 2)
    small = pixels[::scale, ::scale]
    left, gap, block = 34 + 2, 8, 5 * 34 + 2
    assert small.shape == (2 * 34 + 2, left + 2 * (gap + block), 3)
    starts = [2, left + gap + 2, left + gap + block + gap + 2]
    for row in range(2):
        first = [small[2 + 34 * row :][:32, start : start + 32] for start in starts]
        assert np.array_equal(first[0], first[1]) and np.array_equal(first[0], first[2])
    assert (small[:, left : left + gap] == 255).all()


def test_nearest_takes_data_by_name_or_folder(tmp_path):
    config = load_generator(untrained_run(tmp_path / "run")).origin.config.data
    assert data_like(config, *nearest_source("shapes")).source == "shapes"
    (tmp_path / "folder").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "meta.json").write_text("{}")
    for name in ("folder", "packed"):
        found = data_like(config, *nearest_source(str(tmp_path / name)))
        assert (found.source, found.path, found.num_classes) == (name, str(tmp_path / name), None)


def test_by_class_without_classes_fills_rows_of_ten():
    images = torch.zeros(11, 3, 4, 4, dtype=torch.uint8)
    assert by_class(images, 0).shape == (3, 2 * 6 + 2, 10 * 6 + 2)


@pytest.mark.parametrize(("n", "channels", "columns"), [(7, 3, 3), (2, 1, 8), (4, 3, 2)])
def test_grids_and_pictures_are_those_of_torchvision(n, channels, columns):
    images = torch.randint(256, (n, channels, 5, 7), dtype=torch.uint8)
    assert torch.equal(image_grid(images, columns), make_grid(images, nrow=columns, padding=2, pad_value=255))
    picture, expected = to_pil(images[0]), to_pil_image(images[0])
    assert picture.mode == expected.mode and picture.tobytes() == expected.tobytes()
    assert torch.equal(from_pil(picture.convert("RGB")), pil_to_tensor(expected.convert("RGB")))


def test_a_single_image_has_a_frame_too(tmp_path):
    grid = image_grid(torch.zeros(1, 1, 4, 6, dtype=torch.uint8), 5)
    assert grid.shape == (3, 8, 10) and grid.sum() == 255 * 3 * (80 - 24)
    save_picture(grid, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == (640, 512)
    save_picture(torch.zeros(3, 10, 2000, dtype=torch.uint8), tmp_path / "wide.png")
    assert Image.open(tmp_path / "wide.png").size == (2000, 10)


def test_every_option_that_changes_a_picture_changes_its_name(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sagan.evaluation.build_extractor", cheap_extractor)
    (tmp_path / "data").mkdir()
    for i in range(3):
        Image.new("RGB", (32, 32), (80 * i, 0, 0)).save(tmp_path / "data" / f"{i}.png")
    choices = {
        "--seed 1": "grid-step-00000000-seed-1",
        "--classes 2,0": "grid-step-00000000-seed-0-classes-2-0",
        "--num 4": "grid-step-00000000-seed-0-num-4",
        "--truncation 0.5": "grid-step-00000000-seed-0-truncation-0.5",
        "--ema false": "grid-step-00000000-seed-0-no-ema",
        "--standing_statistics 2": "grid-step-00000000-seed-0-standing-2x64",
        "--interpolate z": "interpolate-z-step-00000000-seed-0",
        "--interpolate classes": "interpolate-classes-step-00000000-seed-0",
        "--no-captions --num 5": "grid-step-00000000-seed-0-num-5-bare",
        f"--nearest {tmp_path / 'data'} --num 2": "nearest-data-step-00000000-seed-0-num-2",
    }
    for options, name in choices.items():
        sample(run, *options.split())
        file = Path(capsys.readouterr().out.strip().partition(": ")[0])
        assert file == Path(run) / "samples" / f"{name}.png" and file.is_file()
    long = ",".join("012"[i % 3] for i in range(60))
    sample(run, "--classes", long)
    name = Path(capsys.readouterr().out.strip()).name
    assert len(name) < 80 and "-classes-60-" in name


def test_no_option_is_left_out_of_a_pictures_name():
    """A new option is part of the name unless it stands in ELSEWHERE."""
    values = {"num": 7, "classes": [1], "seed": 1, "truncation": 0.5, "interpolate": "z", "truncation_curve": "shapes"}
    values |= {"captions": False, "nearest": "shapes", "ema": False, "standing_statistics": 2}
    changes_nothing = {"out", "video", "checkpoint", "batch_size", "device", "trust_module", "extractor"}
    assert {f.name for f in fields(Options)} == set(values) | changes_nothing
    names = {picture_name(Options(**{name: value}), 5) for name, value in values.items()}
    assert len(names) == len(values) and picture_name(Options(), 5) == "grid-step-00000005-seed-0" not in names
    by = Options(nearest="shapes", extractor=ExtractorConfig(name="efficientnet-lite0"))
    assert picture_name(by, 5) == "nearest-shapes-efficientnet-lite0-step-00000005-seed-0"


def test_a_different_picture_is_never_replaced_unless_it_is_named(run, twelve, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i, directory in enumerate((run, twelve)):  # two files of the same step, in no run directory
        assert main(["export", directory, "--out", f"w{i}"]) == 0
    capsys.readouterr()
    names = []
    for i in (0, 1, 0, 1):
        sample(f"w{i}/generator.safetensors", "--num", 3)
        names.append(capsys.readouterr().out.strip())
    first = "grid-step-00000000-seed-0-num-3"
    assert names == [f"{first}.png", f"{first}-v2.png"] * 2 and len(list(tmp_path.glob("*.png"))) == 2
    for seed in (0, 1):
        sample("w0/generator.safetensors", "--num", 3, "--seed", seed, "--out", f"{first}.png")
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_the_suffix_chooses_the_format(run, tmp_path):
    assert set(PICTURES) == set(FORMATS)
    sample(run, "--num", 3, "--out", tmp_path / "a.png")
    exact = np.array(Image.open(tmp_path / "a.png")).astype(int)
    for name, form, error in (("a.webp", "WEBP", 0), ("a.jpg", "JPEG", 3), ("a.JPEG", "JPEG", 3), ("b.PNG", "PNG", 0)):
        sample(run, "--num", 3, "--out", tmp_path / name)
        image = Image.open(tmp_path / name)
        assert image.format == form and np.abs(np.array(image.convert("RGB")) - exact).mean() <= error


@pytest.mark.parametrize("suffix", [".foo", ".bmp", ".tif"])
def test_an_unknown_suffix_is_refused_before_anything_is_loaded(suffix, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sagan.runs.networks.load_generator", lambda *args, **options: pytest.fail("loaded"))
    assert main(["sample", "nowhere", "--out", str(tmp_path / f"x{suffix}")]) == 2
    error = capsys.readouterr().err
    assert f"x{suffix}: expected a name that ends in .png, .jpg" in error and error.count("\n") == 1


def test_a_picture_too_large_for_its_format_is_named(tmp_path):
    with pytest.raises(UserError, match="tall.webp: cannot be written"):
        save_picture(torch.zeros(3, 20000, 8, dtype=torch.uint8), tmp_path / "tall.webp")


def test_a_folder_of_samples_is_a_data_set_of_the_same_classes(named, twelve, tmp_path):
    sample(named, "--num", 8, "--out", tmp_path / "a")
    data = open_data(DataConfig("folder", str(tmp_path / "a"), 32))
    assert data.class_names == ["bird", "cat", "d o g"] and data.labels.bincount().tolist() == [3, 3, 2]
    images = expected(named, draw(named, 8), torch.arange(8) % 3)
    found = data.batch(torch.arange(8)).permute(0, 2, 3, 1).numpy()
    assert close(found, images[[0, 3, 6, 1, 4, 7, 2, 5]])
    train_run(tmp_path / "again", tmp_path / "a", **{"training.steps": 1})
    sample(twelve, "--num", 24, "--out", f"{tmp_path / 'b.v2'}/")
    data = open_data(DataConfig("folder", str(tmp_path / "b.v2"), 32))
    assert data.class_names == [f"{i:02d}" for i in range(12)] and data.labels.bincount().tolist() == [2] * 12


def test_folder_names_are_safe_and_stay_apart():
    names = ["cat", "a/b", "a:b", "a_b-2", "Cat", "..", ".hidden", "", " ", "x" * 300, "x" * 301, "猫", "end. "]
    safe = folder_names(names)
    assert safe[:5] == ["cat", "a_b", "a_b-2", "a_b-2-2", "Cat-2"] and safe[11:] == ["猫", "end"]
    assert len({name.casefold() for name in safe}) == len(names)
    assert all(n and len(n) < 100 and not n.startswith(".") and "/" not in n and n == n.strip() for n in safe)


def test_a_number_that_names_another_class_is_a_name(image_folder, tmp_path, capsys):
    for old, new in zip("abc", "123", strict=True):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / new).symlink_to(image_folder / old)
    run = train_run(tmp_path / "run", tmp_path / "data")
    for words in ("1,3", "[1,3]", '["1", "3"]'):
        sample(run, "--classes", words, "--num", 2, "--out", tmp_path / "a.npz")
        assert np.load(tmp_path / "a.npz")["labels"].tolist() == [0, 2]
    sample(run, "--classes", "0", "--num", 1, "--out", tmp_path / "b.npz")  # the number of a class, and no name
    assert np.load(tmp_path / "b.npz")["labels"].tolist() == [0]


def test_classes_go_by_name_and_a_wrong_one_is_answered_with_all(named, tmp_path, capsys):
    sample(named, "--classes", "cat,0", "--num", 4, "--out", tmp_path / "a.npz")
    assert np.load(tmp_path / "a.npz")["labels"].tolist() == [1, 0, 1, 0]
    assert main(["sample", named, "--classes", "cat,cow"]) == 2
    error = capsys.readouterr().err
    assert "--classes [cat, cow]: the generator has 3 classes, 0 to 2 (bird, cat, d o g)" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options, sides",
    [
        ([], "l"),
        (["--interpolate", "z"], "l"),
        (["--interpolate", "classes"], "lr"),
        (["--nearest", "data"], "lt"),
    ],
)
def test_captions_stand_in_margins_around_the_bare_picture(named, options, sides, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.evaluation.build_extractor", cheap_extractor)
    monkeypatch.chdir(Path(named).parent)
    sample(named, *options, "--num", 3, "--out", tmp_path / "words.png")
    sample(named, *options, "--num", 3, "--no-captions", "--out", tmp_path / "bare.png")
    words, bare = (np.array(Image.open(tmp_path / f"{name}.png")) for name in ("words", "bare"))
    height, width = bare.shape[:2]
    top = words.shape[0] - height
    room = words.shape[1] - width
    left = next(x for x in range(room + 1) if np.array_equal(words[top:, x : x + width], bare))
    assert (left > 0, room > left, top > 0) == ("l" in sides, "r" in sides, "t" in sides)
    for margin in (words[top:, :left], words[top:, left + width :]):
        for row in np.array_split(margin, 3 if "r" not in sides else 2) if margin.size else ():
            assert (row < 100).any()  # ink beside each row
            assert (row[[0, -1]] == 255).all() and (row[:, [0, -1]] == 255).all()  # not clipped


def test_an_unconditional_picture_has_no_margin(plain, tmp_path):
    sample(plain, "--num", 3, "--out", tmp_path / "a.png")
    assert cells(tmp_path / "a.png", (32, 64)).shape[:2] == (1, 3)
