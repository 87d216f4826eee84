"""What a file names is not obeyed: nothing is downloaded, written or read unchecked because a file says so.

`test_trust.py` has the code that a file names, `test_hostile_files.py` what is in it.
"""

import json
from pathlib import Path

import pytest
import torch
import torchvision.datasets
from PIL import Image

from sagan import evaluate
from sagan.commands.app import main
from sagan.config import ConfigError
from sagan.data import open_data
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.runtime.wording import printable
from tests.helpers.tiny_runs import TINY, cheap_extractor, tokens, untrained_run

ESCAPE = "\x1b]0;owned\x07\x9b31m\u202e\n"
SHOWN = r"\x1b]0;owned\x07\x9b31m\u202e\n"


def edited(run, **changes):
    """Change entries of a run's checkpoint, and of its configuration by dotted names."""
    file = find_checkpoint(run)
    content = load_checkpoint(file)
    for name, value in changes.pop("config", {}).items():
        section, *_, key = [content["config"], *name.split(".")]
        for part in name.split(".")[:-1]:
            section = section[part]
        section[key] = value
    torch.save({**content, **changes}, file)
    return file


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a run with ten classes whose checkpoint names CIFAR-10 in a folder that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sagan.runs.evaluation.build_extractor", cheap_extractor)
    untrained_run(tmp_path / "run", **{"data.num_classes": 10})
    edited("run", config={"data.source": "cifar10", "data.path": str(tmp_path / "planted")})
    return "run"


@pytest.fixture
def downloads(monkeypatch):
    """Return the folders that torchvision is told to download to."""
    asked = []

    class Cifar:
        def __init__(self, root, train, download):
            if not download:
                raise RuntimeError("not found")
            asked.append(str(root))
            raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Cifar)
    return asked


@pytest.mark.parametrize(
    ("options", "folders"),
    [
        ([], []),
        (["--data.source", "cifar10"], []),  # the place is still the file's
        (["--data.path", "mine"], ["mine"]),
        (["--data.source", "cifar10", "--data.path", "mine"], ["mine"]),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "attention"])
def test_a_file_that_names_data_starts_no_download(run, downloads, verb, options, folders, tmp_path, capsys):
    code = main([verb, run, "--device", "cpu", *options])
    output = capsys.readouterr()
    assert downloads == folders and not (tmp_path / "planted").exists()
    assert code == (0 if verb == "attention" and not options else 1)  # without real images, the others are drawn
    if not folders:
        words = f"data.source cifar10: not found in {tmp_path / 'planted'}. Both are named by the run's file alone"
        assert words in output.out + output.err


@pytest.mark.parametrize("verb", ["evaluate", "attention"])
def test_a_file_that_names_a_data_source_of_ones_own_runs_no_code(run, verb, tmp_path, monkeypatch, capsys):
    (tmp_path / "planted.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Data: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for source in ("planted.Data", "subprocess.Popen"):
        edited(run, config={"data.source": source})
        assert main([verb, run, "--device", "cpu"]) == (1 if verb == "evaluate" else 0)
        output = capsys.readouterr()
        assert f"names the data source {source}, and opening it would run" in output.out + output.err
    assert main([verb, run, "--device", "cpu", "--data.channels", "3"]) == 1  # real images are required now
    assert not Path("ran").exists()


@pytest.mark.parametrize("options", [[], ["--data.path", "user/name"], ["--data.source", "huggingface"]])
def test_a_file_that_names_a_data_set_of_the_hub_starts_no_download(run, options, monkeypatch, capsys):
    datasets, asked = pytest.importorskip("datasets"), []

    def load_dataset(*given, **options):
        asked.append(given)
        raise OSError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    edited(run, config={"data.source": "huggingface", "data.path": "user/name"})
    assert main(["evaluate", run, "--device", "cpu", *options]) == 1
    assert bool(asked) == ("--data.path" in options)
    assert ("not found in user/name. Both are named by the run's file alone" in capsys.readouterr().err) != bool(asked)


def test_a_place_that_neither_names_is_the_default(run, downloads, tmp_path):
    edited(run, config={"data.path": None})
    assert main(["evaluate", run, "--device", "cpu"]) == 1 and downloads == []
    assert main(["evaluate", run, "--device", "cpu", "--data.source", "cifar10"]) == 1 and downloads == ["data"]


def test_nearest_downloads_only_to_a_place_that_no_file_names(run, downloads, monkeypatch):
    monkeypatch.setattr("sagan.evaluation.build_extractor", cheap_extractor)
    assert main(["sample", run, "--nearest", "cifar10", "--device", "cpu"]) == 1 and downloads == []
    edited(run, config={"data.source": "shapes", "data.path": None})
    assert main(["sample", run, "--nearest", "cifar10", "--device", "cpu"]) == 1 and downloads == ["data"]


def test_the_function_of_python_downloads_nothing(run, downloads):
    with pytest.raises(RuntimeError, match="nothing is downloaded"):
        evaluate(run, device="cpu")
    assert downloads == []


def test_an_extractor_whose_weights_nothing_checks_has_to_be_named_by_the_user(run, capsys):
    edited(run, config={"evaluation.extractor.name": "vgg16"})
    assert main(["evaluate", run]) == 2
    assert "extractor.name vgg16: only run names it" in capsys.readouterr().err
    edited(run, config={"evaluation.extractor.weights": "weights.pt"})
    assert main(["evaluate", run, "--extractor.name", "vgg16"]) == 2
    assert "extractor.weights weights.pt: only run names it" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="extractor.name vgg16: only run names it"):
        evaluate(run)


def test_names_of_classes_do_not_steer_the_terminal(tmp_path, capsys):
    untrained_run(tmp_path / "run", **{"data.num_classes": 2})
    edited(tmp_path / "run", data={"class_names": [f"a{ESCAPE}", "b"], "images": 4})
    assert main(["sample", str(tmp_path / "run"), "--classes", "c"]) == 2
    output = capsys.readouterr()
    assert f"(a{SHOWN}, b)" in output.err and output.err.count("\n") == 1


def test_names_of_files_and_classes_do_not_steer_the_terminal_or_the_log_of_a_run(tmp_path, capsys):
    for name in ("a\x1b[31m", "b\u202e", "c\nd"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / name / "x.png")
    (tmp_path / "images" / "b\u202e" / "y\x1b[2J\x9b.png").write_bytes(b"no image")
    options = {**TINY, "data.source": "folder", "data.path": tmp_path / "images", "data.on_error": "skip"}
    words = ["train", *tokens({**options, "training.steps": 1, "run_dir": tmp_path / "run"})]
    assert main(words) == 0
    output = capsys.readouterr()
    log = (tmp_path / "run" / "log.txt").read_text()
    for text in (output.out, output.err.replace("\r", ""), log):
        assert not set(text) & {"\x1b", "\x9b", "\u202e"}
    assert r"a\x1b[31m, b\u202e, c\nd; 1 images each" in log and r"y\x1b[2J\x9b.png" in log
    assert main([*words[:-1], f"--run_dir={tmp_path / 'run'}", "--data.path=no\x1b[2Jwhere", "--training.steps=2"]) == 1
    assert r"no\x1b[2Jwhere" in capsys.readouterr().err


def test_what_is_printable_stays():
    text = "naïve 猫 👩\u200d🔬 \u200cمی‌خواهم\tx\n"
    assert printable(text) == text and printable("a\rb\x00", keep="") == r"a\rb\x00"
    assert printable("\udcff") == r"\udcff"


def test_a_data_set_that_is_there_is_read_wherever_it_lies(tmp_path, monkeypatch):
    class Cifar:
        data, targets, classes = torch.zeros(4, 32, 32, 3, dtype=torch.uint8).numpy(), [0, 1, 0, 1], ["a", "b"]

        def __init__(self, root, train, download):
            assert not download

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Cifar)
    from sagan.config import DataConfig

    assert len(open_data(DataConfig("cifar10", str(tmp_path)), download=False)) == 4


def test_an_export_names_no_place_to_write(run, tmp_path):
    """The configuration of a file has a run directory; what is drawn from the file lies where the user is."""
    edited(run, config={"run_dir": str(tmp_path / "planted")})
    alone = tmp_path / "alone.pt"
    alone.write_bytes(find_checkpoint(run).read_bytes())
    before = {p.name for p in tmp_path.iterdir()}
    assert main(["export", str(alone), "--out", "weights"]) == 0
    assert main(["sample", "weights/generator.safetensors", "--num", "1"]) == 0
    assert main(["attention", str(alone), "--network", "generator", "--num", "1"]) == 0
    made = {p.name for p in tmp_path.iterdir()} - before
    assert made == {"weights", "attention", "grid-step-00000000-seed-0-num-1.png"}
    from safetensors import safe_open

    with safe_open(Path("weights/generator.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["sagan"])["step"] == 0
