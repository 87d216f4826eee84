"""What people try in their first hour."""

import shutil
import subprocess
import sys

import pytest

from sagan.commands.app import main
from sagan.runs.networks import load_generator
from sagan.version import __version__
from tests.helpers.pages import ROOT

TINY = ("--training.steps", "2", "--training.batch_size", "4", "--device", "cpu", "--data.resolution", "32",
        "--model.generator.channels", "4", "--model.discriminator.channels", "4",
        "--model.generator.attention.kind", "none", "--model.discriminator.attention.kind", "none")  # fmt: skip


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "sagan: error: trian: there is no such verb; did you mean train?"),
        (
            ["train", "quickstrat"],
            "sagan train: error: quickstrat: neither a YAML file nor a preset; did you mean",
        ),
        (
            ["train"],
            "sagan train: error: PRESET is missing\nusage: sagan train [PRESET] [--option value ...]\n\npresets:\n",
        ),
        (["train", "--device", "cpu", "--run_dir", "x", "--dry-run"], "sagan train: error: PRESET is missing\n"),
        (
            ["train", "quickstart", "--training.step", "3"],
            "--training.step: there is no such option; did you",
        ),
        (["--completion", "fish"], "sagan: error: --completion fish: expected one of bash, zsh"),
    ],
)
def test_mistakes_are_answered_with_what_may_be_meant(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_mistake_is_answered_without_loading_torch():
    code = (
        "import sys; from sagan.commands.app import main; main(['train', 'quickstrat']); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_torchs_compiler_is_not_loaded_to_train_and_sample(tmp_path):
    """It takes as long to load as torch itself, and torchvision and torch's optimizers load it."""
    weights = str(ROOT / "experiments/cifar10-cpu/generator.safetensors")
    code = f"""
import sys
from sagan.commands.app import main
for steps in ("1", "2"):  # begins, then resumes
    assert main(["train", "quickstart", *{TINY}, "--training.steps", steps, "--run_dir", "run"]) == 0
assert main(["sample", {weights!r}, "--num", "4", "--device", "cpu", "--out", "grid.png"]) == 0
print(sorted({{"torchvision", "torch._dynamo", "sympy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_torchs_compiler_is_not_loaded_to_check_any_kind_of_attention():
    code = """
import sys
from sagan import load_config
from sagan.attention import KINDS
for kind in KINDS:
    load_config("quickstart", [f"model.{network}.attention.kind={kind}" for network in ("generator", "discriminator")])
    if loaded := {"torch._dynamo", "sympy"} & set(sys.modules):
        print(kind, loaded)
        break
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_help_of_a_preset_shows_its_values(capsys):
    assert main(["train", "imagenet", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: 256)" in said and "(default: 1000000)" in said


@pytest.mark.parametrize("verb", ["ablate", "bench", "pack"])
def test_long_help_pages_fit_two_screens(verb, capsys):
    assert main([verb, "--help"]) == 0
    short = capsys.readouterr().out.splitlines()
    assert main([verb, "--help-all"]) == 0
    assert len(short) <= 80 < len(capsys.readouterr().out.splitlines())


def test_a_dry_run_says_what_would_run_and_writes_nothing(image_folder, tmp_path, capsys):
    words = ["train", "own-images", "--data.path", str(image_folder), "--run-dir", str(tmp_path / "run"), *TINY]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "a new run" in said and "data: 24 images" in said and "steps: 2, 4 images each, on cpu" in said
    assert list(tmp_path.iterdir()) == []
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == 0
    assert "finished at step 2, so nothing is left to train" in capsys.readouterr().out
    assert main([*words, "--training.steps", "3", "--dry-run"]) == 0
    assert "resuming from step 2" in capsys.readouterr().out
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main(["train", str(tmp_path / "moved" / "config.yaml"), "--training.steps", "3", "--dry-run"]) == 0
    assert f"run directory: {tmp_path / 'moved'}, resuming from step 2" in capsys.readouterr().out


@pytest.mark.parametrize("flat", [False, True])
def test_own_images_train_offline(flat, image_folder, tmp_path):
    folder = image_folder
    if flat:
        folder = tmp_path / "flat"
        folder.mkdir()
        for file in image_folder.rglob("*.png"):
            shutil.copy(file, folder)
    assert main(["train", "own-images", "--data.path", str(folder), "--run_dir", str(tmp_path / "run"), *TINY]) == 0
    config = load_generator(tmp_path / "run").origin.config
    assert config.data.num_classes == (0 if flat else 3) and config.training.diffaugment


def test_own_images_without_a_folder_say_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "own-images"]) == 1
    assert "data.path my-images" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_early_is_no_error():
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()  # nobody reads any more
    done = subprocess.run(
        [sys.executable, "-m", "sagan", "train", "--help"], stdout=reader.stdin, stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (0, b"")
