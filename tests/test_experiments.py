"""Every shipped preset is a valid configuration, and trains; every script can be imported."""

import importlib
import json
import os
import runpy
import sys
import tarfile
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from experiments import cifar10_jpeg
from sagan.config import DataConfig
from sagan.data import find_data
from sagan.presets import config_file, describe_preset, load_config, presets
from sagan.training.loop import train
from tests.helpers.tiny_runs import TINY

FOLDER = Path(__file__).parent.parent / "experiments"
SCRIPTS = sorted([*FOLDER.glob("**/*.py"), *(FOLDER.parent / "samples").glob("*.py")])
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def test_all_presets_are_known_by_name():
    assert presets() == NAMES
    assert {
        "quickstart",
        "cifar10",
        "cifar10-sngan",
        "cifar10-studiogan",
        "cifar10-cpu",
        "tiny-imagenet",
        "imagenet",
        "imagenet-best",
    } <= set(NAMES)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_finds_what_it_imports(script):
    """Most measure for too long to run here."""
    importlib.import_module(".".join(script.relative_to(FOLDER.parent).with_suffix("").parts))


@pytest.mark.parametrize("script", [*SCRIPTS, FOLDER.parent / "docs" / "reference.py"], ids=lambda path: path.name)
def test_asking_a_script_for_help_measures_and_writes_nothing(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    assert not stopped.value.code
    assert capsys.readouterr().out.startswith(f"usage: {script.name}")
    assert not list(tmp_path.iterdir())


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(sys, "argv", ["cifar10_jpeg.py", str(tmp_path / "data")])
    with pytest.raises(SystemExit, match="cifar10: not found in .*data, and the download failed .*no route to host"):
        cifar10_jpeg.main()


def test_the_jpeg_files_of_cifar10_are_encoded_like_those_of_the_experiments(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    images = list(zip(map(Image.fromarray, noise), (1, 0, 1), strict=True))
    cifar10_jpeg.write(images, ["airplane", "automobile"], tmp_path)
    names = ["airplane/0000.jpg", "automobile/0000.jpg", "automobile/0001.jpg"]
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/*")) == names
    written = [Image.open(tmp_path / name) for name in names]
    assert len(find_data(DataConfig("folder", str(tmp_path)))) == 3
    archive = Path(os.environ.get("SAGAN_TEST_DATA", "/nonexistent")) / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip("SAGAN_TEST_DATA does not name a folder with cifar10-jpeg.tar.xz")
    with tarfile.open(archive) as members:
        known = Image.open(members.extractfile(next(m for m in members if m.isfile())))
        for image in written:
            assert image.quantization == known.quantization
            assert get_sampling(image) == get_sampling(known)


@pytest.mark.parametrize("name", NAMES)
def test_it_parses_and_says_what_it_is(name):
    config = load_config(name)
    assert config.run_dir == f"runs/{name}"
    assert config_file(name).samefile(FOLDER / f"{name}.yaml")
    line = describe_preset(name)
    assert (FOLDER / f"{name}.yaml").read_text().startswith(f"# {line}\n") and 20 < len(line) < 120


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name, tmp_path):
    """Two steps, with everything as it is but the size of the networks, of the images and of the data."""
    config = load_config(name)
    tiny = {
        **TINY,
        "run_dir": tmp_path / "run",
        "data.source": "shapes",
        "data.path": "null",
        "data.memory_gb": 0,  # draws the few images that are needed
        "data.workers": 0,
        "data.num_classes": 10,
        "evaluation.every": 0,
        "checkpoint.every": 0,
        "logging.images_every": 0,
        "training.ema_start": min(config.training.ema_start, 1),
    }
    if max(config.data.size) > 64:
        tiny["data.resolution"] = 32
        for network in ("generator", "discriminator"):
            tiny[f"model.{network}.attention.resolutions"] = 16
    train(load_config(name, [f"{key}={value}" for key, value in tiny.items()]))
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2
    assert (tmp_path / "run" / "checkpoints" / "step-00000002.pt").is_file()
