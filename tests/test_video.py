"""`sagan sample --video`: the frames of the loop, and that they come back from each format."""

import av
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from sagan import load_generator
from sagan.commands.app import main
from sagan.commands.sample import VIDEOS
from sagan.runtime.draws import latents
from sagan.runtime.pictures import to_uint8
from sagan.sampling import Draw, slerp, video
from sagan.sampling.video import STOPS, loop_frames, number_of_frames
from tests.helpers.tiny_runs import untrained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("video") / "run")


@torch.no_grad()
def frames_of(run, classes, between, seed=0):
    """Return the frames by another route: one at a time, at the stops without any arc."""
    generator = load_generator(run)
    z = latents(seed, "sample", 0, len(classes), generator.z_dim)
    frames = []
    for i, c in enumerate(classes):
        j = (i + 1) % len(classes)
        for k in range(between):
            y = torch.zeros(1, generator.num_classes)
            y[0, c] += 1 - k / between
            y[0, classes[j]] += k / between
            here = z[i : i + 1] if k == 0 else slerp(z[i], z[j], torch.tensor([[k / between]]))
            frames.append(to_uint8(generator(here, y))[0])
    return torch.stack(frames)


def test_the_loop_goes_through_every_class_and_back_to_the_first(run):
    generator = load_generator(run)
    found = torch.stack(list(loop_frames(generator, [0, 2, 1], 5, Draw(seed=3, batch_size=2))))
    assert len(found) == number_of_frames([0, 2, 1], 5) == 15
    assert (found.int() - frames_of(run, [0, 2, 1], 5, seed=3).int()).abs().max() <= 1
    z = latents(3, "sample", 0, 3, generator.z_dim)
    with torch.no_grad():  # at the stops: the images of the classes themselves
        assert (found[::5].int() - to_uint8(generator(z, torch.tensor([0, 2, 1]))).int()).abs().max() <= 1
    assert number_of_frames([], 5) == 5 * STOPS and number_of_frames([1], 5) == 10


def read(file):
    """Return the frames of a file, uint8 (n, H, W, 3)."""
    if file.suffix == ".mp4":
        with av.open(str(file)) as container:
            assert container.streams.video[0].average_rate == 25
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    moving = Image.open(file)
    assert moving.info["loop"] == 0
    frames = []
    for i in range(moving.n_frames):
        moving.seek(i)
        moving.load()
        assert moving.info["duration"] == 40
        frames.append(np.asarray(moving.convert("RGB")))
    return np.stack(frames)


def test_every_name_that_the_command_takes_has_a_format():
    assert tuple(video.FORMATS) == VIDEOS


@pytest.mark.parametrize("suffix", ["mp4", "webp", "gif"])
def test_the_frames_come_back_from_the_file(run, suffix, tmp_path, capsys):
    file = tmp_path / f"loop.{suffix}"
    assert main(["sample", run, "--video", str(file), "--classes", "[0,1]", "--num", "3"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    expected = frames_of(run, [0, 1], 3).permute(0, 2, 3, 1).numpy()
    shown = read(file)
    assert shown.shape == (6, 640, 640, 3)
    small = shown[:, 10::20, 10::20].astype(int)  # the middle of each enlarged pixel
    apart = np.abs(small - expected).mean((1, 2, 3))
    others = np.abs(np.roll(small, 3, 0) - expected).mean((1, 2, 3))
    assert (apart < 25).all() and (apart < others / 2).all()  # compressed, and no frame is another's


WRONG = {
    "--video loop.avi": (2, "--video loop.avi: expected a name that ends in .mp4, .webp, .gif"),
    "--video a.gif --interpolate z": (2, "--video a.gif: cannot be combined with --interpolate z"),
    "--video a.gif --out b.png": (2, "cannot be combined with --out b.png"),
    "--video a.gif --num 0": (2, "--num 0: expected a number above 0"),
}


@pytest.mark.parametrize("options", WRONG)
def test_mistakes_are_named(run, options, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, words = WRONG[options]
    assert main(["sample", run, *options.split()]) == code
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", video.FORMATS)
def test_a_long_video_takes_no_more_memory_than_a_short_one(suffix, tmp_path):
    memory = []

    def frames():
        for i in range(120):
            memory.append(psutil.Process().memory_info().rss / 2**20)
            yield torch.full((3, 32, 32), 2 * i, dtype=torch.uint8)

    video.save_video(frames(), tmp_path / f"loop{suffix}")
    assert memory[-1] - memory[69] < 15  # MiB; 50 frames of 640x640 take 59, and mp4 looks some 40 ahead
