"""Weights on the Hugging Face Hub: pushed to a recorded HfApi, loaded from a server on this machine."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from sagan import load_discriminator, load_generator
from sagan.commands.app import main
from sagan.config import ConfigError, UserError
from sagan.evaluation import Scores
from sagan.runs.hub_download import parsed
from sagan.runs.records import append_evaluation
from sagan.runs.saved_networks import holds_discriminator, load_run_config
from sagan.sharing.weights import export
from tests.helpers.hub import COMMIT, RecordedApi, hub
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import untrained_run

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")
constants = pytest.importorskip("huggingface_hub.constants")
errors = pytest.importorskip("huggingface_hub.errors")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("hub") / "run")


@pytest.fixture(scope="module")
def weights(run, tmp_path_factory):
    return export(run, tmp_path_factory.mktemp("hub") / "weights")


@pytest.fixture
def files(weights):
    return {file.name: file.read_bytes() for file in weights}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty cache, and a way to the endpoint: place(server)."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return lambda server: monkeypatch.setenv("HF_ENDPOINT", server.url)


def same(network, other):
    return all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_networks_come_from_an_address_and_then_from_the_cache(files, run, place, capsys):
    digest = hashlib.sha256(files["generator.safetensors"]).hexdigest()
    with hub(files) as server:
        place(server)
        generator = load_generator("hf://user/name")
        assert same(generator, load_generator(run)) and generator.origin.step == 0
        pinned = f"hf://user/name@{COMMIT}#{digest}"
        assert capsys.readouterr().err.splitlines()[-1] == f"hf://user/name resolved to {pinned}"
        assert not any("discriminator" in line for line in server.asked)
        assert same(load_discriminator(pinned), load_discriminator(run))
        asked = len(server.asked)
        assert same(load_generator(pinned), generator) and load_run_config(pinned) == generator.origin.config
        assert len(server.asked) == asked  # a commit does not change
    assert "hf://" not in capsys.readouterr().err
    assert same(load_discriminator(pinned), load_discriminator(run)) and holds_discriminator(pinned)  # without a server


def test_other_weights_than_the_pinned_ones_are_refused(files, place):
    other = "f" * 64
    with hub(files) as server:
        place(server)
        with pytest.raises(
            UserError, match=f"hf://user/name#{other}: the SHA-256 of generator.safetensors is .*{other}"
        ):
            load_generator(f"hf://user/name#{other}")


def test_a_download_that_is_not_what_the_hub_has_is_refused(files, place):
    with hub(files) as server:
        server.etags["generator.safetensors"] = "e" * 64
        place(server)
        with pytest.raises(UserError, match=f"is [0-9a-f]{{64}}, expected {'e' * 64}"):
            load_generator("hf://user/name")


def test_a_download_that_breaks_off_is_one_line(files, place, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    with hub(files) as server:
        place(server)
        server.cut = 100
        with pytest.raises(UserError, match="^hf://user/name: cannot be downloaded: "):
            load_generator("hf://user/name")


def test_what_is_missing_is_named(files, place, tmp_path, monkeypatch):
    del files["discriminator.safetensors"]
    with hub(files) as server:
        place(server)
        assert not holds_discriminator("hf://user/name")
        with pytest.raises(
            UserError, match="discriminator.safetensors: cannot be read as exported weights: No such file"
        ):
            load_discriminator("hf://user/name")
        with pytest.raises(UserError, match="hf://user/other: cannot be downloaded: .*404"):
            load_generator("hf://user/other")
        with pytest.raises(UserError, match="hf://user/name@old: cannot be downloaded: .*404"):
            load_generator("hf://user/name@old")
    with hub({}) as server:
        place(server)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
        with pytest.raises(UserError, match="hf://user/name: holds no generator.safetensors"):
            load_generator("hf://user/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf://user/name: the package huggingface_hub is missing.*'\.\[hub\]'"):
        load_generator("hf://user/name")


@pytest.mark.parametrize(
    "address", ["hf://user", "hf://user/name/file", "hf://user/name#abc", "hf://user/name@", "hf://"]
)
def test_addresses_that_cannot_be_read_are_refused(address):
    with pytest.raises(ConfigError, match=f"^{re.escape(address)}: expected hf://user/name, optionally"):
        load_generator(address)
    whole = f"hf://user/na.me@v1/x#{'0' * 64}"
    assert str(parsed(whole)) == whole


def test_sample_by_the_variable_of_the_library(files, run, tmp_path):
    """A process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    with hub(files) as server:
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "sagan", "sample", "hf://user/name", "--num", "6", "--device", "cpu"]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert f"hf://user/name resolved to hf://user/name@{COMMIT}#" in done.stderr
    picture = tmp_path / done.stdout.strip()
    assert main(["sample", run, "--num", "6", "--device", "cpu", "--out", str(tmp_path / "own.png")]) == 0
    assert picture.read_bytes() == (tmp_path / "own.png").read_bytes()


def test_push_uploads_what_export_writes_with_its_card(run, weights, tmp_path, monkeypatch, capsys, place):
    monkeypatch.setattr(huggingface_hub, "HfApi", RecordedApi)
    monkeypatch.setattr(RecordedApi, "folder", tmp_path / "pushed", raising=False)
    monkeypatch.setattr(RecordedApi, "calls", calls := [])
    assert main(["push", run, "user/name", "--private", "--licence", "mit"]) == 0
    digest = hashlib.sha256(weights[0].read_bytes()).hexdigest()
    assert capsys.readouterr().out.splitlines()[-1] == f"hf://user/name@{COMMIT}#{digest}"
    assert calls == [
        ("create_repo", "user/name", True, True),
        ("upload_folder", "user/name", f"generator.safetensors with SHA-256 {digest}"),
    ]
    names = ["README.md", "discriminator.safetensors", "generator.safetensors", "samples.png"]
    assert sorted(file.name for file in RecordedApi.folder.iterdir()) == names
    assert all((RecordedApi.folder / file.name).read_bytes() == file.read_bytes() for file in weights)
    assert 'load_generator("hf://user/name")' in (RecordedApi.folder / "README.md").read_text()
    with hub({name: (RecordedApi.folder / name).read_bytes() for name in names}) as server:  # and back
        place(server)
        assert same(load_generator("hf://user/name"), load_generator(run))


def unreachable():
    """Raise what HTTP clients do: no error of the library, and no OSError."""
    raise Exception("[Errno 111] Connection refused")


def test_a_push_that_is_refused_is_one_line(run, monkeypatch, capsys):
    class Refusing(RecordedApi):
        def create_repo(self, repo_id, **options):
            raise errors.LocalTokenNotFoundError("Token is required, but no token found.\nMore.")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    assert main(["push", run, "user/name"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "sagan push: error: user/name: cannot be pushed: Token is required, but no token found.; `hf "
    )
    monkeypatch.setattr(Refusing, "create_repo", lambda *arguments, **options: unreachable())
    assert main(["push", run, "user/name"]) == 1
    assert "user/name: cannot be pushed: [Errno 111] Connection refused" in capsys.readouterr().err
    for name in ("user/a--b", "user/name.git"):
        assert main(["push", run, name]) == 2
        assert capsys.readouterr().err.startswith(f"sagan push: error: {name}: ")
    assert main(["push", run, "user/name@dev"]) == 2
    assert "user/name@dev: expected user/name: a push makes a new revision" in capsys.readouterr().err
    assert main(["push", run, "no-name"]) == 2
    assert "hf://no-name: expected hf://user/name" in capsys.readouterr().err


def test_a_card_says_what_the_weights_are(tmp_path, capsys):
    run = untrained_run(tmp_path / "run")
    protocol = {"extractor": "x-net", "weights": "c" * 64, "n_fake": 12}
    for fid in (9.5, 7.25):  # the newest counts
        append_evaluation(Path(run), {"step": 0, **Scores({"fid_x_net": fid}, protocol).record()}, "sagan evaluate")
    append_evaluation(Path(run), {"step": 1, **Scores({"fid_x_net": 1.0}, protocol).record()}, "sagan evaluate")
    for other in ({"ablated": "blocks.1.attention"}, {"ema": False}):  # scores of something else
        scores = Scores({"fid_x_net": 2.0}, {**protocol, **other})
        append_evaluation(Path(run), {"step": 0, **scores.record()}, "sagan evaluate")
    assert main(["export", run, "--card", "--licence", "cc-by-4.0", "--out", str(tmp_path / "out")]) == 0
    written = [Path(line).name for line in capsys.readouterr().out.split()]
    assert written == ["generator.safetensors", "discriminator.safetensors", "README.md", "samples.png"]
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["library_name"]) == ("cc-by-4.0", "sagan")
    generator, discriminator = load_generator(run), load_discriminator(run)
    counts = [f"{sum(p.numel() for p in n.parameters()):,}" for n in (generator, discriminator)]
    for words in (
        "| data | shapes, 3 classes |",
        "| training | 0 steps of 4 images |",
        "| weights of G | moving average |",
        "| attention in G | sagan at 16 |",
        f"| parameters | {counts[0]} in G, {counts[1]} in D |",
        "| licence | cc-by-4.0 |",
        "fid_x_net  7.25  lower is better",
        "weights: cccccccccccc\nn_fake: 12",
    ):
        assert words in card
    assert "9.5" not in card and card.count("fid_x_net") == 1
    (block,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    names = {}
    exec(block.replace('"generator', f'"{tmp_path}/out/generator'), names)
    assert tuple(names["images"].shape) == (20, 3, 32, 32)


def test_options_of_a_card_that_mean_nothing_are_refused(run, capsys):
    assert main(["export", run, "--card", "--format", "pt2"]) == 2
    assert "--card true: is about weights; expected --format safetensors, given pt2" in capsys.readouterr().err
    assert main(["export", run, "--licence", "mit"]) == 2
    assert "--licence mit: requires --card" in capsys.readouterr().err
