"""A file that names an attention kind runs its code only if somebody has allowed it."""

import shlex
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sagan import attention_figure, evaluate, load_config, load_discriminator, load_generator, sample
from sagan.attention import is_loaded
from sagan.commands.app import main
from sagan.config import ConfigError, UntrustedCode
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.sharing.weights import export
from tests.helpers.tiny_runs import train_run, untrained_run

GATE = """
from pathlib import Path

from sagan.attention import Attention

Path(__file__).with_name("ran").touch()


class Gate(Attention):
    def transform(self, x):
        return x
"""


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Write a checkpoint whose kind is in `stranger.py`, in a folder on the path. Importing it leaves a file `ran`."""
    run = Path(untrained_run(tmp_path / "run"))
    file = find_checkpoint(run)
    content = load_checkpoint(file)
    for network in ("generator", "discriminator"):
        attention = content["config"]["model"][network]["attention"]
        attention["kind"] = "stranger.Gate"
        weights = content[network]
        content[network] = {k: w for k, w in weights.items() if ".attention." not in k or k.endswith("gamma")}
    content["generator_ema"] = content["generator"]
    torch.save(content, file)
    (tmp_path / "stranger.py").write_text(GATE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield file
    sys.modules.pop("stranger", None)


def exported(file):
    """Return the same weights as an export, made while the class is known."""
    __import__("stranger")
    generator, _ = export(file, file.parent)
    del sys.modules["stranger"]
    Path("ran").unlink()
    return generator


def test_the_code_that_a_file_names_is_refused_in_one_line_with_the_command_that_allows_it(strange, capsys):
    weights = exported(strange)
    for words in (
        ["sample", "run"],
        ["sample", str(strange), "--num", "3"],
        ["sample", str(weights)],
        ["attention", "run"],
        ["attention", "run", "--network", "discriminator"],
        ["evaluate", "run", "--device=cpu"],
    ):
        assert main(words) == 1
        file = weights if words[1] == str(weights) else strange.relative_to(strange.parents[2])
        assert capsys.readouterr().err.rstrip("\n") == (
            f"sagan {words[0]}: error: {file if words[1] != str(strange) else strange}: names the attention kind "
            "stranger.Gate, and loading it would run the module stranger; if you trust that code, run: "
            f"{shlex.join(['sagan', *words, '--trust_module', 'stranger'])}"
        )
    assert not Path("ran").exists()


def test_the_command_that_allows_it_works_and_keeps_what_was_allowed_before(strange, capsys):
    assert main(["sample", "run", "--num", "1", "--trust_module", "json"]) == 1
    command = capsys.readouterr().err.rstrip("\n").partition("run: ")[2]
    assert command.endswith("--trust_module json,stranger")
    assert main(shlex.split(command)[1:]) == 0
    assert Path("ran").exists()


@pytest.mark.parametrize(
    "call",
    [
        load_generator,
        load_discriminator,
        lambda run, **how: sample(run, 1, **how),
        lambda run, **how: evaluate(run, ["num_samples=1"], device="cpu", **how),
        lambda run, **how: attention_figure(run, **how),
    ],
    ids=["load_generator", "load_discriminator", "sample", "evaluate", "attention_figure"],
)
def test_every_function_of_python_refuses_it_and_can_be_told_to_trust(strange, call):
    with pytest.raises(UntrustedCode, match=r"names the attention kind stranger.Gate.*trust_module=\['stranger'\]"):
        call("run")
    assert not Path("ran").exists()
    with suppress(ConfigError):  # the kind has no maps to draw, and the run no data
        call("run", trust_module="stranger")
    assert Path("ran").exists()


def test_a_class_that_the_program_has_imported_needs_no_permission(strange):
    __import__("stranger")
    assert load_generator("run", trust_module=["stranger"]).origin == load_generator("run").origin


def test_a_module_to_trust_that_does_not_exist_is_named(strange, capsys):
    assert main(["sample", "run", "--trust_module", "no_such_module"]) == 2
    assert "trust_module no_such_module: cannot be imported: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("stranger", "the configuration in it is damaged: model.generator.attention.kind stranger: expected one of"),
        ("os.path.join", "names the attention kind os.path.join"),  # no class
        ("stran ger.Gate", "names the attention kind stran ger.Gate"),
        ("..stranger.Gate", "names the attention kind ..stranger.Gate"),
        ("sagan.train", "names the attention kind sagan.train"),  # getattr would import it
        ("sagan.attention.Attention", "expected a class that defines transform"),
    ],
)
def test_names_that_are_no_class(strange, kind, words):
    content = load_checkpoint(strange)
    content["config"]["model"]["generator"]["attention"]["kind"] = kind
    torch.save(content, strange)
    with pytest.raises(RuntimeError, match=words):
        load_generator(strange)
    assert not Path("ran").exists()


def test_only_classes_of_attention_in_imported_modules_are_loaded():
    assert is_loaded("sagan") and is_loaded("none") and is_loaded("sagan.attention.SaganAttention")
    assert not is_loaded("sagan.attention.ConfigError") and not is_loaded("") and not is_loaded("a.b")


def test_a_kind_of_the_users_own_trains_and_resumes_by_the_same_command(strange, tmp_path, image_folder):
    options = {"model.generator.attention.kind": "stranger.Gate"}
    train_run(tmp_path / "own", image_folder, **options)
    del sys.modules["stranger"]  # as in a new process
    train_run(tmp_path / "own", image_folder, **options, **{"training.steps": 3})
    del sys.modules["stranger"]
    (tmp_path / "own.yaml").write_text("model: {generator: {attention: {kind: stranger.Gate}}}")
    assert load_config(str(tmp_path / "own.yaml")).model.generator.attention.kind == "stranger.Gate"
    assert is_loaded("stranger.Gate")
