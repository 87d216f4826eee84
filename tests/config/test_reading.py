"""From text to a configuration: what is understood, what is refused, and in which words."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from sagan.commands.sample import Options
from sagan.config import DRAWN, Config, ConfigError, Setting, flatten, read, refuse_changes, to_config, to_yaml
from sagan.config.plain_yaml import DEEPEST, load_yaml
from sagan.config.reading import option_types
from sagan.config.types import Positive, in_words, range_in_words
from sagan.presets import config_file, load_config, presets


def message(*overrides, name=None):
    with pytest.raises(ConfigError) as error:
        load_config(name, list(overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("training: {steps: 5, batch_size: 6}\noptimizer.beta1: 0.5\nevaluation:\n")
    config = load_config(str(file), ["training.batch_size=8", "training.batch_size=10"])
    assert (config.training.steps, config.training.batch_size, config.training.seed) == (5, 10, 0)
    assert config.optimizer.beta1 == 0.5
    assert config.run_dir == "runs/mine"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("model.generator.attention.resolutions=16", [16]),
        ("model.generator.attention.resolutions=8,16", [8, 16]),
        ("model.generator.attention.resolutions=[8, 16]", [8, 16]),
        ("model.generator.attention.resolutions=[]", []),
        ("training.diffaugment=color", ["color"]),
        ("data.resolution=[64,32]", [64, 32]),
        ("data.resolution=64", 64),
        ("optimizer.generator_lr=1e-4", 1e-4),
        ("data.flip=true", True),
        ("data.num_classes=null", None),
        ("data.path=123", "123"),
        ("data.path=a: b=c", "a: b=c"),
        ("model.generator.attention.options.precision=bf16", None),
    ],
)
def test_values_are_understood(override, value):
    values = dict(flatten(load_config(None, [override, "data.source=cifar10"])))  # `shapes` has no path
    key = override.partition("=")[0]
    if key in values:
        assert values[key] == value
    else:
        assert values["model.generator.attention.options"] == {"precision": "bf16"}


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text("run_dir: ~/runs/mine\ndata: {source: folder, path: ~/images}\n")
    config = load_config(str(file), ["training.init_from=~/runs/old", "data.source=folder"])
    assert (config.run_dir, config.data.path) == (f"{tmp_path}/runs/mine", f"{tmp_path}/images")
    assert config.training.init_from == f"{tmp_path}/runs/old"
    options = read(Options, [Setting("out", "~/grid.png", "--"), Setting("video", "~/a~b.mp4", "--")])
    assert (options.out, options.video) == (f"{tmp_path}/grid.png", f"{tmp_path}/a~b.mp4")


def test_a_yaml_file_may_hold_a_bare_list_item_and_numbers_that_yaml_reads_as_text(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("optimizer: {generator_lr: 1e-4}\nmodel: {discriminator: {attention: {resolutions: 16}}}")
    config = load_config(str(file))
    assert config.optimizer.generator_lr == 1e-4
    assert config.model.discriminator.attention.resolutions == [16]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.steps=foo", "training.steps foo: expected an integer"),
        ("training.steps=1e5", "training.steps 1e5: expected an integer"),
        ("training.steps=null", "training.steps null: expected an integer"),
        ("optimizer.eps=x", "optimizer.eps x: expected a number"),
        ("optimizer.eps=nan", "optimizer.eps nan: expected a number"),
        ("data.flip=maybe", "data.flip maybe: expected true or false"),
        ("data.channels=4", "data.channels 4: expected one of 1, 3"),
        ("data.num_classes=x", "data.num_classes x: expected an integer or null"),
        ("data.resolution=abc", "data.resolution abc: expected an integer or a list, [...], each item an integer"),
        ("model.generator.init=foo", "model.generator.init foo: expected one of xavier, orthogonal"),
        (
            "model.generator.attention.resolutions=16.5",
            "model.generator.attention.resolutions 16.5: expected a list, [...], each item an integer",
        ),
        (
            "training.diffaugment=[color,foo]",
            "training.diffaugment [color,foo]: expected a list, [...], each item one of color, translation, cutout",
        ),
        (
            "model.generator.attention.options=3",
            "model.generator.attention.options 3: expected a mapping, {key: value, ...}",
        ),
        ("training.step=5", "training.step: there is no such option; did you mean training.steps?"),
        ("training.batch-size=5", "training.batch-size: there is no such option; did you mean training.batch_size?"),
        ("d_steps=5", "d_steps: there is no such option; did you mean training.d_steps?"),
        ("training=5", "training 5: expected one of its options, such as training.steps"),
        (
            "model.generator.attention.options.precision=half",
            "model.generator.attention.options.precision half: expected one of float32, bf16",
        ),
        ("data.path=here", "data.path here: data.source shapes draws its images, so expected null"),
        ("training.steps", "training.steps: expected an override such as training.steps=1000"),
        ("data.resolution=[32,32,32]", "data.resolution [32, 32, 32]: expected N or [H, W]"),
        ("data.source=folder", "data.path null: data.source folder needs a folder"),
    ],
)
def test_errors_name_option_value_and_what_was_expected(override, expected):
    assert message(override) == expected


def test_no_source_that_draws_its_images_has_a_path():
    for source in DRAWN:
        expected = f"data.path here: data.source {source} draws its images, so expected null"
        assert message("data.path=here", f"data.source={source}") == expected


def test_sizes_that_do_not_exist_are_refused_with_those_that_do():
    assert message("data.resolution=37").startswith("data.resolution 37: expected a*2^n by b*2^n")
    found = message("model.discriminator.attention.resolutions=[13]")
    assert found.startswith("model.discriminator.attention.resolutions 13: no block") and "8, 16" in found


def test_a_batch_that_cannot_be_split_names_both_numbers():
    found = message("training.batch_size=9", "training.micro_batches=2")
    assert "training.batch_size 9" in found and "training.micro_batches 2" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {steps: foo}", "training.steps foo: expected an integer"),
        ("training: {steps: 5.0}", "training.steps 5.0: expected an integer"),
        ("training: {steps: null}", "training.steps null: expected an integer"),
        ("trainin: {steps: 5}", "trainin: there is no such option"),
        ("training: {step: 5}", "training.step: there is no such option; did you mean training.steps?"),
        ("training: 5", "training 5: expected one of its options"),
        (
            "model: {generator: {attention: sagan}}",
            "model.generator.attention sagan: expected one of its options, such as model.generator.attention.kind",
        ),
        ("training: {steps: 0}", "training.steps 0: expected a number above 0"),
        (
            "model: {generator: {attention: {options: {variant: old}}}}",
            "model.generator.attention.options.variant old: expected one of code, paper, v1",
        ),
        ("[1, 2]", "expected options as"),
        ("training: {steps: 5", "cannot be read as YAML: expected ',' or '}', but got '<stream end>' in line 1"),
        ("a: \x00", "cannot be read as YAML"),
    ],
)
def test_errors_name_the_file_that_a_value_comes_from(tmp_path, text, expected):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    found = message(name=str(file))
    assert found.startswith(f"{file}: ") and expected in found


@pytest.mark.parametrize("name", ["0123", "007", "2024_01", "0x1f", "12:30", "2024"])
def test_a_name_of_digits_stays_what_it_is(name, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"run_dir: {name}\ndata: {{source: folder, path: {name}}}\ntraining: {{steps: 1_000}}\n")
    config = load_config(str(file))
    assert (config.run_dir, config.data.path, config.training.steps) == (name, name, 1000)
    file.write_text(to_yaml(config))
    assert load_config(str(file)) == config


def test_a_file_is_not_blamed_for_the_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("training: {steps: 5}")
    assert message("training.steps=x", name=str(file)) == "training.steps x: expected an integer"
    assert message("training.steps=0", name=str(file)) == "training.steps 0: expected a number above 0"


def test_a_binary_file_and_an_unknown_name_are_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    assert message(name=str(file)).startswith(f"{file}: cannot be read as YAML")
    assert message(name="nosuch").startswith("nosuch: neither a YAML file nor a preset; the presets are cifar10, ")
    assert "missing.yaml: neither" in message(name=str(tmp_path / "missing.yaml"))


def test_brackets_are_read_to_a_limited_depth():
    """PyYAML takes seconds over a thousand of them before it gives up."""
    value = load_yaml("[" * DEEPEST + "]" * DEEPEST)
    for _ in range(DEEPEST - 1):
        (value,) = value
    assert value == []
    with pytest.raises(yaml.YAMLError, match="too deep"):
        load_yaml("[{a: " * (DEEPEST // 2) + "[")


NUMBERS = [key for key, kind in option_types(Config).items() if in_words(kind).startswith(("an integer", "a number"))]


@pytest.mark.parametrize("key", [key for key in NUMBERS if key != "data.resolution"])
def test_every_number_has_a_range_that_refuses_negative_ones(key):
    expected = range_in_words(option_types(Config)[key])
    assert expected and re.fullmatch(rf"{key} -1(\.0)?: expected {re.escape(expected)}", message(f"{key}=-1"))


@pytest.mark.parametrize("key", [key for key in NUMBERS if key != "data.resolution"])
def test_the_ranges_hold_for_files_and_checkpoints_too(key):
    section, _, name = key.rpartition(".")
    values = {name: -1}
    for part in reversed(section.split(".")):
        values = {part: values}
    with pytest.raises(ConfigError, match=rf"^{key} -1(\.0)?: expected "):
        to_config(values)


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.beta2=1",
        "training.steps=0",
        "evaluation.truncation=1e-5",
        "training.ema_decay=1.5",
        "logging.every=0",
    ],
)
def test_limits_are_held(override):
    key, _, _ = override.partition("=")
    assert message(override).startswith(f"{key} ")


def test_errors_of_the_command_line_show_the_option_as_typed():
    with pytest.raises(ConfigError, match="^--training.steps foo: expected an integer$"):
        read(Config, [Setting("training.steps", "foo", "--")])


def test_one_entry_of_a_mapping_keeps_the_others():
    key = "model.generator.attention.options"
    for first in ({"a": 1, "b": 2}, "{a: 1, b: 2}"):
        config = read(Config, [Setting(key, first), Setting(f"{key}.b", "3", "--")])
        assert config.model.generator.attention.options == {"a": 1, "b": 3}


@pytest.mark.parametrize("name", [*presets(), None])
def test_yaml_brings_back_the_same_configuration(tmp_path, name):
    config = load_config(
        name,
        [
            "data.resolution=[64,32]",
            "model.generator.channels=16",
            "model.discriminator.channels=16",
            "model.generator.attention.options.precision=bf16",
            "training.diffaugment=color",
            "optimizer.eps=1e-12",
            "model.generator.attention.kind=sagan",
            "model.generator.attention.resolutions=16",
            "model.discriminator.attention.resolutions=16",
        ],
    )
    file = tmp_path / "another-name.yaml"
    file.write_text(to_yaml(config))
    assert load_config(str(file)) == config
    assert to_config(yaml.safe_load(to_yaml(config))) == config


def test_yaml_has_one_option_on_a_line():
    lines = to_yaml(load_config("quickstart")).splitlines()
    assert "    attention:" in lines and "      resolutions: [16]" in lines and "  generator_lr: 0.0001" not in lines
    assert len([line for line in lines if not line.endswith(":")]) == len(flatten(Config()))


def test_resumption_refuses_what_makes_another_run_and_shows_both_values():
    old = load_config("quickstart")
    new = replace(old, training=replace(old.training, seed=7), data=replace(old.data, flip=True))
    with pytest.raises(ConfigError) as error:
        refuse_changes(old, new, Path("runs/x"))
    lines = str(error.value).splitlines()
    assert lines[0].startswith("runs/x ")
    assert lines[1:3] == ["  data.flip: false in the run, true now", "  training.seed: 0 in the run, 7 now"]
    assert len(lines) == 4


def test_resumption_compares_where_weights_came_from_as_paths():
    def started_from(path):
        return load_config("quickstart", [f"training.init_from={path}"])

    for path in ("runs/a", "./runs/a", "runs/a/"):
        refuse_changes(started_from("runs/a"), started_from(path), Path("runs/x"))
    with pytest.raises(ConfigError, match="training.init_from: null in the run, runs/a now"):
        refuse_changes(started_from("null"), started_from("runs/a"), Path("runs/x"))


def test_a_contradiction_is_blamed_on_nobody_if_the_option_it_begins_with_was_set_earlier(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("training: {batch_size: 16}")
    words = "training.batch_size 16 is not divisible by training.micro_batches 3"
    assert message("training.micro_batches=3", name=str(file)) == words
    file.write_text("training: {batch_size: 16, micro_batches: 3}")
    assert message(name=str(file)) == f"{file}: {words}"


def test_resumption_allows_what_leaves_the_run_the_same():
    old = load_config("cifar10")
    new = load_config(
        "cifar10",
        [
            "training.steps=9",
            "evaluation.every=3",
            "evaluation.extractor.name=vgg16",
            "logging.every=1",
            "logging.images_every=7",
            "data.path=elsewhere",
            "device=cpu",
            "checkpoint.every=2",
            "data.workers=0",
            "run_dir=moved",
        ],
    )
    refuse_changes(old, new, Path("runs/x"))


def test_resumption_bears_keys_of_another_version():
    config = load_config("quickstart")
    content = yaml.safe_load(to_yaml(config))
    del content["model"]["generator"]["norm_sync"], content["optimizer"]
    content["training"]["abandoned"], content["forgotten"] = 1, {"a": 2}
    old = to_config(content)
    refuse_changes(replace(old, optimizer=config.optimizer), config, Path("runs/x"))
    sync = load_config("quickstart", ["model.generator.norm_sync=true"])
    with pytest.raises(ConfigError, match="model.generator.norm_sync: false in the run, true now"):
        refuse_changes(old, sync, Path("runs/x"))


def test_a_preset_is_a_name_or_a_file():
    assert config_file("quickstart").name == "quickstart.yaml"
    assert load_config(str(config_file("quickstart"))) == load_config("quickstart")


def test_options_may_have_postponed_annotations():
    """As in a module that begins with `from __future__ import annotations`."""

    @dataclass
    class Postponed:
        side: "Positive" = 3

    assert option_types(Postponed) == {"side": Positive}
    assert read(Postponed, [Setting("side", "5", "")]) == Postponed(5)
    with pytest.raises(ConfigError, match="side 0: expected a number above 0"):
        read(Postponed, [Setting("side", "0", "")])
