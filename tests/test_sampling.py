"""What `sagan sample` makes: which image stands where, in which form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan import load_generator
from sagan.commands.app import main
from sagan.commands.sample import nearest_source
from sagan.data import MemoryDataset
from sagan.runtime.draws import latents
from sagan.runtime.pictures import image_grid, save_png, to_uint8
from sagan.sampling import by_class, data_like, nearest, slerp
from tests.helpers.tiny_runs import cheap_extractor, untrained_run

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


def sample(*arguments):
    assert main(["sample", *map(str, arguments)]) == 0


@torch.no_grad()
def expected(run, z, y):
    """The generator's own images, (n, H, W, C)."""
    return to_uint8(load_generator(run)(z, y)).permute(0, 2, 3, 1).numpy()


def draw(run, count, seed=0):
    return latents(seed, "sample", 0, count, load_generator(run).z_dim)


def cells(file, size=(32, 32)):
    """The images of a grid, (rows, columns, H, W, C), from pixels that were made into squares."""
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
    sample(run)
    file = Path(run) / "samples" / "grid-step-00000000-seed-0.png"
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    grid = cells(file)
    assert grid.shape[:2] == (3, 10)
    images = expected(run, draw(run, 30), torch.arange(30) % 3)
    for index in (0, 1, 2, 3, 29):
        assert close(grid[index % 3, index // 3], images[index])


def test_classes_choose_the_rows(run, tmp_path):
    sample(run, "--classes", "2,0", "--num", 5, "--out", tmp_path / "g.png")
    grid = cells(tmp_path / "g.png")
    assert grid.shape[:2] == (2, 3)
    images = expected(run, draw(run, 5), torch.tensor([2, 0, 2, 0, 2]))
    assert close(grid[:, 0], images[:2]) and close(grid[0, 2], images[4])
    assert (grid[1, 2] == 255).all()  # the sixth is not there


def test_fewer_images_than_classes_take_a_row_each(run, tmp_path):
    sample(run, "--num", 2, "--out", tmp_path / "g.png")
    assert cells(tmp_path / "g.png").shape[:2] == (2, 1)


def test_many_classes_show_ten_unless_more_are_named(twelve, tmp_path):
    sample(twelve, "--out", tmp_path / "ten.png")
    assert cells(tmp_path / "ten.png").shape[:2] == (10, 10)
    names = ",".join(map(str, range(12)))
    sample(twelve, "--classes", names, "--num", 12, "--out", tmp_path / "all.png")
    assert cells(tmp_path / "all.png").shape[:2] == (12, 1)
    sample(twelve, "--num", 24, "--out", tmp_path / "all.npz")
    assert np.load(tmp_path / "all.npz")["labels"].tolist() == list(range(12)) * 2


def test_an_image_depends_on_seed_and_index_alone(run, tmp_path):
    sample(run, "--num", 12, "--batch_size", 12, "--out", tmp_path / "a.npz")
    sample(run, "--num", 7, "--batch_size", 3, "--out", tmp_path / "b")
    sample(run, "--num", 7, "--seed", 1, "--out", tmp_path / "c.npz")
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["images"].shape == (12, 32, 32, 3) and arrays["images"].dtype == np.uint8
    files = sorted((tmp_path / "b").iterdir())
    assert [f.name for f in files] == [f"{i:05d}-{i % 3}.png" for i in range(7)]
    assert close(np.stack([np.array(Image.open(f)) for f in files]), arrays["images"][:7])
    assert not close(np.load(tmp_path / "c.npz")["images"], arrays["images"][:7])


def test_a_folder_with_other_images_is_left_alone(run, tmp_path):
    sample(run, "--num", 4, "--out", tmp_path / "a")
    sample(run, "--num", 6, "--out", tmp_path / "a")  # the same four and two more
    assert main(["sample", run, "--num", "4", "--out", str(tmp_path / "a")]) == 2
    assert main(["sample", run, "--num", "9", "--classes", "1", "--out", str(tmp_path / "a")]) == 2
    assert len(list((tmp_path / "a").iterdir())) == 6


def test_truncation_and_averages_change_the_images(run, tmp_path):
    sample(run, "--num", 3, "--out", tmp_path / "a.npz")
    images = np.load(tmp_path / "a.npz")["images"]
    for i, options in enumerate((["--truncation", 0.2], ["--ema", "false"], ["--standing_statistics", 2])):
        sample(run, "--num", 3, *options, "--out", tmp_path / f"{i}.npz")
        assert not np.array_equal(np.load(tmp_path / f"{i}.npz")["images"], images), options


def test_rows_lead_from_one_latent_vector_to_another(run, tmp_path):
    sample(run, "--interpolate", "z", "--num", 4, "--batch_size", 3, "--out", tmp_path / "z.png")
    grid, z = cells(tmp_path / "z.png"), draw(run, 6)
    assert grid.shape[:2] == (3, 4)
    assert close(grid[:, 0], expected(run, z[::2], torch.arange(3)))
    assert close(grid[:, 3], expected(run, z[1::2], torch.arange(3)))
    assert not close(grid[0, 1], grid[0, 0])


def test_rows_lead_from_one_class_to_the_next(run, tmp_path):
    sample(run, "--interpolate", "classes", "--classes", "0,2,1", "--num", 3, "--out", tmp_path / "c.png")
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


def test_unconditional_greyscale_images_of_another_shape(plain, tmp_path):
    sample(plain, "--num", 13, "--out", tmp_path / "g.png")
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
    sample(plain, "--interpolate", "z", "--num", 2, "--out", tmp_path / "z.png")
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
    sample(run, "--num", 2, "--nearest", tmp_path / "data", "--extractor.name", "vgg16", "--out", tmp_path / "n.png")
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


def test_a_single_image_has_a_frame_too(tmp_path):
    grid = image_grid(torch.zeros(1, 1, 4, 6, dtype=torch.uint8), 5)
    assert grid.shape == (3, 8, 10) and grid.sum() == 255 * 3 * (80 - 24)
    save_png(grid, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == (640, 512)
    save_png(torch.zeros(3, 10, 2000, dtype=torch.uint8), tmp_path / "wide.png")
    assert Image.open(tmp_path / "wide.png").size == (2000, 10)
