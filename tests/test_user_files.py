"""Files that are not this program's stay as they are: each is refused in one line, before any long work."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sagan import train as train_from_python
from sagan.attention import capture_maps
from sagan.commands.app import main
from sagan.config import ConfigError, UserError, to_yaml
from sagan.config.writing import is_written
from sagan.data import open_data, pack
from sagan.presets import load_config
from sagan.runs.checkpoints import load_checkpoint, save_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints, newest_step
from sagan.runs.networks import load_discriminator, load_generator
from sagan.runtime.files import check_writable, write_atomically
from sagan.training.loop import train
from tests.helpers.tiny_runs import TINY, tokens, untrained_run


def said(capsys, *words):
    """Return the exit code of a command, and its one line on stderr."""
    code = main([str(word) for word in words])
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return code, error


def test_checkpoints_that_a_run_has_kept_stay(make_config):
    options = ("checkpoint.every=1", "checkpoint.keep=100")
    train(make_config("training.steps=5", *options))
    run_dir = make_config().run_dir
    kept = checkpoints(make_dir := train(make_config("training.steps=5", *options)))
    assert len(kept) == 5 and str(make_dir) == run_dir
    for steps in (5, 6):  # finished, and to be resumed
        with pytest.raises(ConfigError, match=r"^checkpoint.keep 3: .* keeps 100, and 2 checkpoints would be removed"):
            train(make_config(f"training.steps={steps}", "checkpoint.every=1", "checkpoint.keep=3"))
    assert checkpoints(make_dir) == kept
    train(make_config("training.steps=6", *options))
    assert len(checkpoints(make_dir)) == 6


def test_a_configuration_of_the_users_is_not_replaced(make_config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    mine = "# my notes\n" + to_yaml(make_config())
    (folder / "config.yaml").write_text(mine)
    with pytest.raises(ConfigError, match=r"^run_dir .*run: no run has written the config.yaml there"):
        train(make_config("training.steps=1"))
    assert (folder / "config.yaml").read_text() == mine and newest_step(folder) == 0
    (folder / "config.yaml").write_text(to_yaml(make_config()))  # as a run that was killed early leaves it
    train(make_config("training.steps=1"))
    assert newest_step(folder) == 1


@pytest.mark.parametrize(
    "text", ["data: {source: shapes}\n", "data:\n  source: shapes\n", "- a\n", "a: [", "a: 2026-02-30\n", ""]
)
def test_only_a_whole_configuration_counts_as_written_by_a_run(text, make_config):
    assert not is_written(text) and is_written(to_yaml(make_config()))


def test_records_without_a_checkpoint_are_not_replaced(make_config, tmp_path):
    run = train(make_config("training.steps=5", "checkpoint.every=1", "logging.every=1"))
    records = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run / "checkpoints")  # to save space
    with pytest.raises(ConfigError, match=r"has records up to step 5 but no checkpoint"):
        train(make_config("training.steps=5", "checkpoint.every=1", "logging.every=1"))
    assert (run / "metrics.jsonl").read_text() == records
    for every in (100, 0):  # it may have been killed before the first one
        train(make_config("training.steps=5", f"checkpoint.every={every}"))
        shutil.rmtree(run / "checkpoints")


def test_a_run_inside_its_own_data_is_refused(make_config, image_folder):
    inside = make_config("training.steps=1", f"run_dir={image_folder / 'runs' / 'mine'}")
    with pytest.raises(ConfigError, match=r"^run_dir .*: is inside data.path .*, so its pictures"):
        train(inside)
    assert not (image_folder / "runs").exists()
    config = replace(inside, data=replace(inside.data, source="huggingface"))
    with pytest.raises(ConfigError, match=r"^run_dir .*: is inside data.path .*, so its pictures"):
        train(config)


def test_pack_replaces_packed_sets_only(image_folder, tmp_path, monkeypatch, capsys):
    mine, data = tmp_path / "mine", ["--data.source=folder", f"--data.path={image_folder}"]
    mine.mkdir()
    np.save(mine / "images.npy", np.arange(3))
    code, line = said(capsys, "pack", *data, "--out", mine)
    assert code == 1 and "exists and is not a packed data set" in line
    assert np.load(mine / "images.npy").tolist() == [0, 1, 2]
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for _ in range(2):
        assert main(["pack", *data, "--out", str(tmp_path / "link")]) == 0
    monkeypatch.chdir(tmp_path / "new")
    assert ".: is the working directory" in said(capsys, "pack", *data, "--out", ".")[1]
    assert (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["images.npy", "labels.npy", "meta.json"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_packed_set_stays_if_the_new_one_cannot_take_its_place(image_folder, tmp_path, monkeypatch):
    config = load_config(None, ["data.source=folder", f"data.path={image_folder}"])
    pack(open_data(config.data), tmp_path / "set")
    rename = os.rename

    def fails(source, target):
        if ".partial-" in str(source):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(UserError, match="cannot write the packed data set: no"):
        pack(open_data(config.data), tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and (tmp_path / "set" / "meta.json").is_file()


def test_a_card_replaces_cards_only(tmp_path, capsys, monkeypatch):
    run = untrained_run(tmp_path / "run")
    export = ["export", run, "--card", "--out", tmp_path / "out"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("# My project\n")
    code, line = said(capsys, *export)
    assert code == 1 and "README.md there is not a model card's" in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["README.md"]
    (tmp_path / "out" / "README.md").unlink()
    for _ in range(2):
        assert main([str(word) for word in export]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "README.md describes what was exported before; --card makes it anew" in capsys.readouterr().out
    monkeypatch.setattr("sagan.sharing.graphs.graph_bytes", lambda graph, form: b"")
    assert main(["export", str(run), "--format", "pt2", "--out", str(tmp_path / "out")]) == 0
    assert "README.md" not in capsys.readouterr().out  # it describes weights, which are unchanged


def test_a_checkpoint_that_appears_during_an_export_changes_nothing(tmp_path, monkeypatch):
    """The card is of the step that the weights are of."""
    run = untrained_run(tmp_path / "run")

    def meanwhile(path, write):
        content = torch.load(checkpoint_path(tmp_path / "run", 0), weights_only=True)
        save_checkpoint(tmp_path / "run", {**content, "step": 5}, keep=2)
        write_atomically(path, write)

    monkeypatch.setattr("sagan.sharing.weights.write_atomically", meanwhile)
    assert main(["export", run, "--card", "--out", str(tmp_path / "out")]) == 0
    assert newest_step(tmp_path / "run") == 5
    assert "| training | 0 steps" in (tmp_path / "out" / "README.md").read_text()


def test_a_plan_beside_other_files_is_refused(tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    head = "question: Why?\npreset: quickstart\nbaseline: none\nmetric: fid\nprimary: []\nseeds: [0]\n"
    plan.write_text(f"{head}settings: {{evaluation.every: 1}}\nvariants: {{none: {{training.steps: 1}}}}\n")
    ablate = ["ablate", plan, "--report-only"]
    (tmp_path / "results.csv").write_text("variant,seed,my_score\nnone,0,3\n")
    code, line = said(capsys, *ablate)
    assert code == 1 and "results.csv: not a table of sagan ablate" in line
    (tmp_path / "results.csv").write_text("variant,seed,status,my_score\nnone,0,ok,3\n")
    code, line = said(capsys, *ablate)
    assert code == 1 and "results.csv: not a table of sagan ablate" in line
    (tmp_path / "results.csv").unlink()
    (tmp_path / "forest.png").write_bytes(b"mine")
    code, line = said(capsys, *ablate)
    assert code == 1 and "forest.png: no report of sagan ablate is beside it" in line
    assert (tmp_path / "forest.png").read_bytes() == b"mine"
    (tmp_path / "forest.png").unlink()
    (tmp_path / "README.md").write_bytes(b"caf\xe9 <!-- results: begin -->\n<!-- results: end -->\n")
    for _ in range(2):
        assert main([str(word) for word in ablate]) == 0
    assert (tmp_path / "README.md").read_bytes().startswith(b"caf\xe9 <!-- results: begin -->\n<!-- written by")


def test_the_report_of_another_plan_is_not_replaced_before_its_first_run_has_ended(tmp_path, capsys):
    head = "question: Why?\npreset: quickstart\nbaseline: none\nmetric: fid\nprimary: []\nseeds: [0]\n"
    text = f"{head}settings: {{evaluation.every: 1}}\nvariants: {{none: {{training.steps: 1}}}}\n"
    (tmp_path / "far.yaml").write_text(text)
    (tmp_path / "plan.yaml").write_text(f"{text.replace('Why', 'How')}sizes: {{near: {{}}, far: {{seeds: [1]}}}}\n")
    assert main(["ablate", str(tmp_path / "far.yaml"), "--report-only"]) == 0
    report = (tmp_path / "far/report.md").read_text()
    code, line = said(capsys, "ablate", tmp_path / "plan.yaml", "--size", "far", "--report-only")
    assert code == 1 and "far/report.md: the report of another plan, far; move it away" in line
    assert (tmp_path / "far/report.md").read_text() == report
    (tmp_path / "far").rename(tmp_path / "further")
    (tmp_path / "far.yaml").rename(tmp_path / "further.yaml")
    (tmp_path / "further.yaml").write_text(f"{text}sizes: {{small: {{}}}}\n")
    assert main(["ablate", str(tmp_path / "further.yaml"), "--report-only"]) == 0  # the plan was renamed and has grown


def test_links_stay_links_and_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"^--json .*pipe: is neither a file nor a new name"):
        check_writable(tmp_path / "pipe", "--json", folder=False)


def test_an_error_while_a_file_is_made_is_not_the_files(tmp_path):
    def fails(file):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="^shapes differ$"):
        write_atomically(tmp_path / "x", fails)


def test_attention_pictures_of_other_images_get_another_name(tmp_path):
    run = untrained_run(tmp_path / "run")
    look = ["attention", run, "--network", "generator", "--num", "1", "--out", str(tmp_path / "maps")]
    for seed in (1, 2, 1):
        assert main([*look, "--seed", str(seed)]) == 0
    names = sorted(p.stem for p in (tmp_path / "maps").iterdir())
    assert len(names) == 2 and names[1] == f"{names[0]}-v2"


def test_weights_that_are_not_numbers_are_refused(tmp_path, capsys):
    run = untrained_run(tmp_path / "run")
    content = load_checkpoint(checkpoint_path(tmp_path / "run", 0))
    content["generator_ema"]["to_image.weight"].fill_(float("nan"))
    save_checkpoint(tmp_path / "run", content, keep=1)
    code, line = said(capsys, "sample", run)
    assert code == 1 and "to_image.weight: has numbers that are not finite" in line


def test_weights_of_two_exports_are_not_mixed(tmp_path):
    for step in (1, 2):
        run = untrained_run(tmp_path / f"run{step}")
        content = {**load_checkpoint(checkpoint_path(tmp_path / f"run{step}", 0)), "step": step}
        save_checkpoint(tmp_path / f"run{step}", content, keep=1)
        assert main(["export", run, "--out", str(tmp_path / f"out{step}")]) == 0
    shutil.copy(tmp_path / "out1" / "discriminator.safetensors", tmp_path / "out2")
    load_generator(tmp_path / "out2" / "generator.safetensors")
    with pytest.raises(UserError, match=r"of another export than generator.safetensors beside it \(step 1, not 2\)"):
        load_discriminator(tmp_path / "out2" / "generator.safetensors")


class Shifting(torch.utils.data.Dataset):
    """Images that differ at each reading, as with a random transform."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.randint(256, (3, 32, 32), dtype=torch.uint8), 0


def test_a_data_set_with_random_transforms_is_refused(make_config):
    with pytest.raises(ConfigError, match=r"^dataset\[0\]: a second reading gives another image"):
        train_from_python(make_config("training.steps=1", "data.num_classes=null"), Shifting())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "", "--dry_run"], "neither a YAML file nor a preset"),
        (["sample", "none", "--checkpoint", "best"], "none: no such run directory, so there is no best checkpoint"),
        (["bench", "--attention", "--json", "x.json"], "--json x.json: does not apply to --attention"),
        (["bench", "--attention", "--forms", "plain"], "--forms [plain]: does not apply to --attention"),
        (["bench", "--data", "--forms", "plain"], "--forms [plain]: does not apply to --data"),
        (["bench", "--forms", "slow"], "--forms slow: expected a list, [...], each item one of eager, compiled,"),
        (["attention", "run", "--out", "maps.png"], "--out maps.png: expected a folder for pictures, or a page"),
        (["attention", "run", "--ablate_layer", "all", "--scale", "shared"], "--scale shared: does not apply to"),
        (["sample", "run", "--extractor.name", "vgg16"], "--extractor.name vgg16: requires --nearest or"),
        (["export", "run/generator.safetensors"], "is exported already; expected a run directory or a checkpoint"),
        (["sample", "run", "--interpolate", "z", "--num", "1000000000000"], "num 3000000000000 images of 32x32: needs"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    untrained_run(tmp_path / "run")
    code, error = said(capsys, *words)
    assert code in (1, 2) and line in error
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_dry_run_refuses_what_the_run_would(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = tokens({**TINY, "run_dir": "run"})
    assert main(["train", "quickstart", *options]) == 0
    capsys.readouterr()
    assert main(["train", "quickstart", *options, "--training.batch_size=8", "--dry_run"]) == 2
    assert "training.batch_size: 4 in the run, 8 now" in capsys.readouterr().err
    assert said(capsys, "train", "quickstart", *options, "--run_dir=run/config.yaml", "--dry_run")[0] in (1, 2)


def test_a_dry_run_looks_at_the_data_and_downloads_no_weights(image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(image_folder, tmp_path / "data")
    words = ["train", "own-images", "--data.path", str(data), "--data.on_error=raise", "--run_dir", "run"]
    words += [*tokens(TINY), "--dry_run"]
    assert said(capsys, *words, "--evaluation.every=1", "--evaluation.num_real=99") == (
        2,
        "sagan train: error: evaluation.num_real 99: the data have 24 images; 0 takes them all\n",
    )
    assert main([*words[:-1]]) == 0
    shutil.copy(data / "a" / "00.png", data / "a" / "more.png")
    capsys.readouterr()
    assert main([*words, "--training.steps=3"]) == 2
    assert "images: 24 in the run, 25 now" in capsys.readouterr().err
    monkeypatch.setattr("sagan.runs.saved_networks.fetch", lambda *arguments: pytest.fail("it downloads"))
    assert main([*words, "--run_dir", "new", "--training.init_from", "hf://user/name"]) == 0
    assert "a new run from the weights of hf://user/name" in capsys.readouterr().out


def test_configurations_from_python_are_checked(make_config, tmp_path):
    with pytest.raises(ConfigError, match=r"^config 'quickstart': expected a Config, such as `load_config` returns"):
        train_from_python("quickstart")
    config = make_config("training.steps=1")
    with pytest.raises(ConfigError, match="micro_batches"):
        train_from_python(replace(config, training=replace(config.training, micro_batches=3)))
    run = train_from_python(replace(config, run_dir=tmp_path / "other"))
    assert is_written((run / "config.yaml").read_text())


@pytest.mark.parametrize("classes", [np.int64(1), [np.int64(0), torch.tensor(1)], torch.tensor([0, 1])])
def test_classes_may_be_integers_of_any_kind(tmp_path, classes):
    generator = load_generator(untrained_run(tmp_path / "run"))
    assert generator.sample(2, classes=classes).shape[0] == 2


@pytest.mark.parametrize("classes", [True, [0.5], [None]])
def test_other_classes_are_an_error_that_names_them(tmp_path, classes):
    generator = load_generator(untrained_run(tmp_path / "run"))
    with pytest.raises(ValueError, match="^classes .*the generator has 3 classes"):
        generator.sample(2, classes=classes)


def test_captures_may_be_nested(tmp_path):
    generator = load_generator(untrained_run(tmp_path / "run"))
    z, y = torch.randn(2, generator.z_dim), torch.tensor([0, 1])
    with capture_maps(generator) as outer:
        with capture_maps(generator) as inner:
            generator(z, y)
        generator(z, y)
    assert all(inner.values()) and inner.keys() == outer.keys()
    assert all(torch.equal(a.weights, b.weights) for k in inner for a, b in zip(inner[k], outer[k], strict=True))
