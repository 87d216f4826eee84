"""The command line: help, mistakes, and the verbs that have no test file of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import sagan
from sagan.attention import KINDS
from sagan.commands.app import VERBS, main
from sagan.presets import load_config, presets
from tests.helpers.tiny_runs import TINY, tokens, train_run, untrained_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, image_folder):
    """Return a folder with a trained run, an unconditional one, a comparison folder, and files that are damaged."""
    root = tmp_path_factory.mktemp("runs")
    train_run(root / "run", image_folder)
    untrained_run(root / "plain", **{"data.num_classes": 0})
    checkpoint = (root / "run" / "checkpoints" / "step-00000002.pt").read_bytes()
    (root / "cut.pt").write_bytes(checkpoint[: len(checkpoint) // 2])
    (root / "text.pt").write_text("hello")
    (root / "text.safetensors").write_text("hello")
    (root / "empty").mkdir()
    (root / "images").symlink_to(image_folder)
    (root / "other.yaml").write_text(yaml.safe_dump({"training": {"seed": 9}, "run_dir": "run"}))
    assert main(["export", str(root / "run"), "--out", str(root / "weights")]) == 0
    return root


@pytest.fixture
def said(runs, monkeypatch, capsys):
    """said("sample run --num 0"): exit code and the error, run where `runs` are."""
    monkeypatch.chdir(runs)

    def run(command):
        code = main(command.split())
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return code, error

    return run


BAD_OPTIONS = {
    "frobnicate": "frobnicate: there is no such verb; expected one of train, sample",
    "sample": "RUN is missing",
    "sample --num 3": "RUN is missing",
    "sample run more": "more: expected an option",
    "sample run --clases 3": "--clases: there is no such option; did you mean classes?",
    "sample run --classes 3": "--classes [3]: the generator has 3 classes, 0 to 2",
    "sample run --classes -1": "--classes [-1]: the generator has 3 classes",
    "sample run --classes []": "--classes []: expected at least one class",
    "sample plain --classes 0": "--classes [0]: the generator is unconditional",
    "sample run --out text.pt": "--out text.pt: expected a name that ends in .png, .jpg, .jpeg, .webp, .npz",
    "sample run --num 0": "--num 0: expected a number above 0",
    "sample run --num": "--num: expected a value after it",
    "sample run --batch_size 0": "--batch_size 0: expected a number above 0",
    "sample run --truncation -1": "--truncation -1.0: expected 0 (never)",
    "sample run --standing_statistics -1": "--standing_statistics -1: expected 0 or more",
    "sample run --interpolate x": "--interpolate x: expected one of z, classes or null",
    "sample run --interpolate classes --classes 1": "--classes [1]: --interpolate classes needs at least two classes",
    "sample plain --interpolate classes": "--interpolate classes: the generator has 0 classes",
    "sample run --interpolate z --out x.npz": "--out x.npz: --interpolate makes one picture",
    "sample run --nearest images --out folder": "--out folder: --nearest makes one picture",
    "sample run --nearest images --interpolate z": "--interpolate z and --nearest images: only one at a time",
    "sample run --num 2 --out images/a": "--out images/a: holds 8 other images, such as 00.png",
    "sample run --device tpu": "device tpu: expected auto, cpu",
    "sample weights/generator.safetensors --ema false": "holds the moving average only",
    "sample weights/generator.safetensors --checkpoint best": "checkpoint best: weights/generator",
    "evaluate": "RUN is missing",
    "evaluate --real images": "--real images: --fake FOLDER is missing",
    "evaluate run --real images": "they cannot be combined with the run run",
    "evaluate --real images --fake images --num_samples 5": "--num_samples applies only to a RUN",
    "evaluate --real images --fake images --data.source shapes": "--data.source applies only to a RUN",
    "evaluate run --num_samples 0": "--num_samples 0: expected a number above 0",
    "evaluate run --every 3": "--every: there is no such option",
    "evaluate run --data.resolution 64": "--data.resolution 64: the generator makes images of 32x32",
    "evaluate run --data.channels 1": "--data.channels 1: the generator makes images of 3 channels",
    "evaluate run --extractor.name foo": "--extractor.name foo: expected one of inception, efficientnet-lite0",
    "train nosuch": "nosuch: neither a YAML file nor a preset",
    "train quickstart --training.steps foo": "--training.steps foo: expected an integer",
    "train other.yaml": "training.seed: 0 in the run, 9 now",
    "pack quickstart": "--out: the folder to write is missing",
}
BAD_WORLD = {
    "sample nowhere": "nowhere: neither a checkpoint file nor a run directory",
    "sample empty": "empty: neither a checkpoint file nor a run directory",
    "sample cut.pt": "cut.pt: ",
    "sample text.pt": "text.pt: ",
    "sample text.safetensors": "text.safetensors: cannot be read as exported weights",
    "sample weights/discriminator.safetensors": "holds the weights of a discriminator, expected a generator",
    "sample run --checkpoint best": "run: has no best checkpoint yet",
    "sample run --checkpoint step-00000009.pt": "--checkpoint step-00000009.pt: no such file",
    "sample run --out text.pt/x.png": "is not a folder",
    "sample run --nearest nowhere": "--nearest nowhere: no such folder; expected one with images, or",
    "evaluate nowhere": "nowhere: neither a checkpoint file nor a run directory",
    "evaluate run --extractor.weights nowhere": "--extractor.weights nowhere: there is no such file",
    "export cut.pt --out out": "cut.pt: ",
    "export run --out text.pt/x": "is not a folder",
    "pack quickstart --out text.pt": "--out text.pt: is a file, expected a folder",
    "bench quickstart --json text.pt/x": "is not a folder",
}


@pytest.mark.parametrize("command", BAD_OPTIONS)
def test_a_wrong_option_is_named_with_exit_code_2(said, command):
    code, error = said(command)
    assert BAD_OPTIONS[command] in error
    assert code == 2
    assert error.count("\n") == 1 or command == "train other.yaml"  # which shows each difference on a line


@pytest.mark.parametrize("command", BAD_WORLD)
def test_what_is_missing_or_damaged_is_named_with_exit_code_1(said, command):
    code, error = said(command)
    assert BAD_WORLD[command] in error
    assert (code, error.count("\n")) == (1, 1)


def test_torch_is_not_loaded_for_help_and_for_mistakes_in_options():
    script = """
import sys, sagan
from sagan.commands.app import VERBS, main
assert main(["--help"]) == main([]) == 0
for verb in VERBS:
    assert main([verb, "--help"]) == 0, verb
    assert main([verb, "quickstart", "--no.such", "5"]) == 2, verb
assert main(["sample", "run", "--interpolate", "z", "--out", "x.npz"]) == 2
assert main(["train", "quickstart", "--training.steps", "0"]) == 2
assert "torch" not in sys.modules
assert "load_generator" in sagan.__all__
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)


def test_help_teaches_without_noise(capsys):
    assert main(["train", "--help"]) == 0
    page = capsys.readouterr().out
    for name in presets():
        assert f"\n  {name} " in page
    for wanted in (
        "sagan train quickstart ",
        "--data.source {shapes,",
        "Base width (64 in the paper)",
        "(default: 64)",
    ):
        assert wanted in page
    for noise in ("CONFIG", "resolutions+", "type:", "Literal", "skip_default"):
        assert noise not in page
    for verb in VERBS:
        assert main([verb, "-h"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: sagan {verb} ")


def test_a_help_page_has_choices_ranges_defaults_and_no_line_that_is_too_long(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for verb in VERBS:
        assert main([verb, "--help-all"]) == 0
        page = capsys.readouterr().out
        assert max(map(len, page.splitlines())) <= 80, verb
    assert main(["sample", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "--interpolate {z,classes} Draw rows" in page and "--classes [TEXT,...] Classes," in page
    assert "--num N Number of images" in page and "[a number above 0] (default: null)" in page
    assert "[0 (never), or at least 0.01] (default: 0.0)" in page
    assert main(["train", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert [kind for kind in KINDS if f" {kind}, " not in page] == []


def test_a_help_page_shows_the_values_of_a_preset_that_is_named(capsys):
    assert main(["train", "imagenet", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "in 3..7. (default: 128)" in page and "micro-batches. [a number above 0] (default: 256)" in page
    assert main(["train", "nosuch", "--help"]) == 2


@pytest.mark.parametrize("verb", ["ablate", "bench", "pack"])
def test_the_options_of_train_are_listed_elsewhere_on_request(verb, capsys):
    assert main([verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert "--training.steps" not in page and "--help-all lists them" in page and page.count("\n") < 75
    assert main([verb, "--help-all"]) == 0
    assert "--training.steps N" in capsys.readouterr().out


def test_print_config_is_a_file_to_train_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "cifar10-sngan", "--training.steps", "7", "--data.resolution", "[64,32]"]
    assert main([*command, "--print_config"]) == 0
    Path("mine.yaml").write_text(capsys.readouterr().out)
    assert load_config("mine.yaml") == load_config("cifar10-sngan", ["training.steps=7", "data.resolution=[64,32]"])
    assert main(["train", "mine.yaml", "--print_config"]) == 0
    assert capsys.readouterr().out == Path("mine.yaml").read_text()
    assert not Path("runs").exists()


def test_the_same_command_resumes_and_so_does_the_config_of_the_run(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert main(["train", "run/config.yaml", "--training.steps", "3"]) == 0
    assert Path("run/checkpoints/step-00000003.pt").is_file()
    assert yaml.safe_load(Path("run/config.yaml").read_text())["training"]["steps"] == 3


def test_pack_makes_data_to_train_on(tmp_path, image_folder, capsys):
    packed, run = tmp_path / "packed", tmp_path / "run"
    folder = {"data.source": "folder", "data.path": image_folder}
    assert main(["pack", "--out", str(packed), *tokens(folder)]) == 0
    assert f"{packed}: 24 images" in capsys.readouterr().out
    source = {"data.source": "packed", "data.path": packed, "data.memory_gb": 0, "data.workers": 0, "run_dir": run}
    assert main(["train", *tokens({**TINY, **source})]) == 0
    assert len(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])) > 1


def test_bench_measures_the_configuration_that_it_is_given(tmp_path, monkeypatch):
    import sagan.benchmark.step

    asked = []
    monkeypatch.setattr(sagan.benchmark.step, "bench", lambda *arguments: asked.append(arguments))
    options = ["--json", str(tmp_path / "b.json"), "--forms", "plain,eager", "--training.batch_size", "32"]
    assert main(["bench", "cifar10", *options]) == 0
    assert asked == [(load_config("cifar10", ["training.batch_size=32"]), tmp_path / "b.json", ["plain", "eager"])]


def test_the_python_interface():
    config = sagan.load_config("cifar10", ["model.generator.channels=8", "model.discriminator.channels=8"])
    generator, discriminator = sagan.build_generator(config), sagan.build_discriminator(config)
    y = torch.tensor([1, 2])
    images = generator(torch.randn(2, generator.z_dim), y)
    assert images.shape == (2, 3, 32, 32)
    assert discriminator(images, y).shape == (2,)
    assert {"load_config", "build_generator", "build_discriminator", "load_generator"} < set(sagan.__all__)
    assert all(callable(getattr(sagan, name)) for name in sagan.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sagan.nothing  # noqa: B018


SHORT_OF_MEMORY = {
    "the CPU's": (lambda: torch.empty(2**46), ": tried to allocate 281474976710656 bytes; "),
    "Python's": (lambda: bytearray(2**62), "; "),
    "a GPU's": (lambda: raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a")),
                ": Tried to allocate 2.50 GiB; "),
}  # fmt: skip


def raises(error):
    raise error


@pytest.mark.parametrize(("allocate", "asked"), SHORT_OF_MEMORY.values(), ids=SHORT_OF_MEMORY)
def test_a_command_that_runs_out_of_memory_says_what_to_change(allocate, asked, monkeypatch, capsys):
    monkeypatch.setattr("sagan.commands.app.run", lambda *arguments: allocate())
    assert main(["train", "quickstart"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"sagan train: error: out of memory{asked}use fewer images at a time (training.batch_size")
    assert error.count("\n") == 1


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch):
    monkeypatch.setattr("sagan.commands.app.run", lambda *arguments: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        main(["train", "quickstart"])
