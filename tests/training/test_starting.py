"""training.init_from: the weights of another run, as far as they fit."""

import shutil

import pytest
import torch

from sagan.commands.app import main
from sagan.config import ConfigError, UserError
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.sharing.weights import export
from sagan.training.loop import train
from sagan.training.starting import start_from
from sagan.training.state import build_state
from tests.helpers.tiny_runs import tokens, train_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory, image_folder):
    """Return a run with three classes and attention whose gain training has moved."""
    options = {"model.generator.z_dim": 8, "model.generator.channels": 4, "model.discriminator.channels": 4}
    run = tmp_path_factory.mktemp("starting") / "source"
    return train_run(run, image_folder, **options, **{"training.ema_decay": 0.5})


@pytest.fixture
def started(make_config, source):
    """started("data.num_classes=5"): a state at step 0 from the source, the state without it, and the lines."""

    def start(*overrides, path=source):
        config = make_config("training.seed=7", *overrides)
        state, fresh = build_state(config, CPU, torch.float32), build_state(config, CPU, torch.float32)
        return state, fresh, start_from(state, str(path))

    return start


def agreeing(weights, others):
    return {name for name, tensor in weights.items() if name in others and torch.equal(tensor, others[name])}


def test_the_same_configuration_takes_everything(started, source):
    state, fresh, lines = started()
    content = load_checkpoint(find_checkpoint(source))
    for name in ("generator", "discriminator"):
        network = getattr(state, name).state_dict()
        assert agreeing(network, content[name]) == network.keys() == content[name].keys()
        assert agreeing(network, getattr(fresh, name).state_dict()) != network.keys()
    average = state.generator_ema.state_dict()
    assert agreeing(average, content["generator"]) == average.keys() and state.step == 0
    assert lines[0] == f"weights from {source}, step 2:" and [line[-5:] for line in lines[1:]] == ["0 not"] * 2


def test_another_number_of_classes_starts_the_tables_of_classes_afresh(started, source):
    state, fresh, lines = started("data.num_classes=5")
    content = load_checkpoint(find_checkpoint(source))
    for name in ("generator", "discriminator"):
        new, old = getattr(state, name).state_dict(), content[name]
        other_shape = {n for n in new if new[n].shape != old[n].shape}
        tables = {n.rpartition(".")[0] for n in other_shape}
        expected = {n for n in new if n.rpartition(".")[0] not in tables}  # u and v go with their weight
        assert tables and agreeing(new, old) == expected
        assert agreeing(new, getattr(fresh, name).state_dict()) >= new.keys() - expected
    assert "    blocks.0.norm1.gain: weight is (3, 16) there, (5, 16) here" in lines
    assert "    embedding: weight is (3, 8) there, (5, 8) here" in lines
    assert sum(line.startswith("    ") for line in lines) == 2 * 2 * 3 + 1  # gain and bias, two norms, three blocks


def test_another_attention_kind_starts_closed_and_the_rest_is_taken(started, source):
    state, fresh, lines = started("model.generator.attention.kind=se", "model.discriminator.attention.kind=none")
    content = load_checkpoint(find_checkpoint(source))
    assert content["generator"]["blocks.1.attention.gamma"] != 0
    new, old = state.generator.state_dict(), content["generator"]
    attention = {n for n in new if ".attention." in n}
    assert agreeing(new, old) == new.keys() - attention and agreeing(new, fresh.generator.state_dict()) >= attention
    assert new["blocks.1.attention.gamma"] == 0
    d = state.discriminator.state_dict()
    assert agreeing(d, content["discriminator"]) == d.keys()
    assert any("blocks.1.attention: has " in line and "query.weight" in line for line in lines)
    assert "    blocks.0.attention: not in this network" in lines


def test_exported_weights_give_the_moving_average_and_the_discriminator_beside_it(started, source, tmp_path):
    generator, discriminator = export(source, tmp_path)
    content = load_checkpoint(find_checkpoint(source))
    state, _, _ = started(path=generator)
    new = state.generator.state_dict()
    assert agreeing(new, content["generator_ema"]) == new.keys() != agreeing(new, content["generator"])
    assert agreeing(d := state.discriminator.state_dict(), content["discriminator"]) == d.keys()
    discriminator.unlink()
    state, fresh, lines = started(path=generator)
    assert agreeing(d := state.discriminator.state_dict(), fresh.discriminator.state_dict()) == d.keys()
    assert lines[-1] == "  discriminator: not in the file, so it starts from random weights"


def test_weights_of_which_none_fits_are_refused(started, source):
    with pytest.raises(ConfigError, match=f"init_from {source}: no layer has the shapes of this configuration"):
        started("model.generator.channels=8", "model.discriminator.channels=8", "model.generator.z_dim=6")


def test_a_run_starts_from_them_says_so_and_resumes_without_them(source, image_folder, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(source, moved)
    options = {"model.generator.z_dim": 8, "model.generator.channels": 4, "model.discriminator.channels": 4}
    options |= {"data.num_classes": 0, "training.init_from": moved, "optimizer.generator_lr": 1e-12}
    train_run(tmp_path / "run", image_folder, **options, **{"training.steps": 1})
    out = capsys.readouterr().out + (tmp_path / "run/log.txt").read_text()
    assert f"weights from {moved}, step 2:" in out and "blocks.0.norm1.gain: weight is (3, 16) there, (1, 16)" in out
    old = load_checkpoint(find_checkpoint(source))["generator"]["blocks.0.conv1.weight"]
    new = load_checkpoint(find_checkpoint(tmp_path / "run"))["generator"]["blocks.0.conv1.weight"]
    torch.testing.assert_close(new, old, rtol=0, atol=1e-9)
    shutil.rmtree(moved)
    train_run(tmp_path / "run", image_folder, **options, **{"training.steps": 2})
    assert load_checkpoint(find_checkpoint(tmp_path / "run"))["step"] == 2


def test_a_missing_file_is_named_before_the_run_begins(make_config, tmp_path, capsys):
    config = make_config(f"training.init_from={tmp_path}/nowhere")
    with pytest.raises(UserError, match="nowhere: neither a checkpoint file nor a run directory"):
        train(config)
    assert not (tmp_path / "run").exists()
    assert main(["train", *tokens({"training.init_from": tmp_path / "no.safetensors", "run_dir": tmp_path / "r"})]) == 1
    assert "no.safetensors: cannot be read as exported weights" in capsys.readouterr().err


def test_dry_run_says_where_the_weights_come_from(source, tmp_path, capsys):
    options = {"training.init_from": source, "run_dir": tmp_path / "r", "device": "cpu"}
    assert main(["train", "quickstart", "--dry-run", *tokens(options)]) == 0
    assert f"a new run from the weights of {source}, step 2" in capsys.readouterr().out
