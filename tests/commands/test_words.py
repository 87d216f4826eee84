"""The forms in which an option may be typed: all of them, for every option alike."""

from dataclasses import replace

import pytest
import yaml

from sagan.commands.app import main
from sagan.commands.words import normalize
from sagan.config import to_config
from sagan.presets import load_config


@pytest.fixture
def config_of(capsys):
    """config_of("--data.flip", ...): the configuration that `sagan train quickstart` has with these words."""

    def parse(*words):
        assert main(["train", "quickstart", *words, "--print_config"]) == 0, capsys.readouterr().err
        return to_config(yaml.safe_load(capsys.readouterr().out))

    return parse


SAME = {
    "data.flip=true": ["--data.flip", "--data.flip true", "--data.flip=true", "--data.flip True", "--data.flip=TRUE"],
    "model.generator.spectral_norm=false": [
        "--no-model.generator.spectral_norm",
        "--no-model.generator.spectral-norm",
        "--model.generator.no-spectral_norm",
        "--model.generator.no-spectral-norm",
        "--model.generator.spectral_norm false",
        "--model.generator.spectral_norm=false",
        "--model.generator.spectral_norm --model.generator.spectral-norm=false",
    ],
    "run_dir=runs/x": ["--run_dir runs/x", "--run-dir runs/x", "--run-dir=runs/x", "--run_dir y --run_dir runs/x"],
    "training.batch_size=8": [
        "--training.batch-size 8",
        "--training.batch_size=8",
        "--training.batch_size 9 --training.batch-size 8",
    ],
    "data.num_classes=null": ["--data.num_classes null", "--data.num-classes=null"],
    "training.seed=0": ["--training.seed 0"],
    "model.generator.attention.resolutions=[8,16]": [
        f"--model.generator.attention.resolutions{text}" for text in (" [8,16]", "=[8,16]", " 8,16", "=8,16")
    ],
    "model.generator.attention.resolutions=[]": ["--model.generator.attention.resolutions []"],
    "training.diffaugment=[color,cutout]": ["--training.diffaugment color,cutout"],
    "model.generator.attention.options.variant=v1": [
        "--model.generator.attention.options.variant v1",
        '--model.generator.attention.options {"variant":"v1"}',
    ],
    "data.resolution=[64,32]": ["--data.resolution [64,32]", "--data.resolution 64,32"],
}


@pytest.mark.parametrize(("override", "forms"), SAME.items())
def test_every_form_of_an_option_means_the_same_as_an_override_in_python(config_of, override, forms):
    overrides = [override]
    if override.startswith("data.resolution"):  # with room for attention at 16
        overrides += ["model.generator.attention.resolutions=16", "model.discriminator.attention.resolutions=16"]
    expected = load_config("quickstart", overrides)
    for form in forms:
        assert config_of(*form.split(), *(f"--{o}" for o in overrides[1:])) == expected, form


def test_flags_stand_anywhere_without_a_value(config_of, capsys):
    assert config_of("--data.flip", "--training.seed", "3") == config_of("--training.seed", "3", "--data.flip")
    assert main(["train", "--print_config", "--data.flip", "quickstart"]) == 0
    found = to_config(yaml.safe_load(capsys.readouterr().out))
    assert found == replace(load_config("quickstart"), data=replace(load_config("quickstart").data, flip=True))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("help train", "train --help"),
        ("help", "--help"),
        ("train --x true", "train --x=true"),
        ("train --x null --y false", "train --x=null --y=false"),
        ("train --x=a true", "train --x=a true"),
        ("train true", "train true"),
        ("train --no-x --no_y", "train --x=false --y=false"),
        ("train --no-a.b.c --a.no-b", "train --a.b.c=false --a.b=false"),
        ("train --norm 3 --a.normal 4 --x no-y", "train --norm 3 --a.normal 4 --x no-y"),
    ],
)
def test_the_words_that_are_changed_before_they_are_read(typed, read):
    assert normalize(typed.split()) == read.split()


WRONG = {
    "--data.flip=maybe": "--data.flip maybe: expected true or false",
    "--no-training.steps": "--training.steps false: expected an integer",
    "--training.steps null": "--training.steps null: expected an integer",
    "--training.steps -1": "--training.steps -1: expected a number above 0",
    "--training.steps": "--training.steps: expected a value after it",
    "--training.steps --data.flip": "--training.steps: expected a value after it",
    "--training 5": "--training 5: expected one of its options, such as training.steps",
    "--training.stps 5": "--training.stps: there is no such option; did you mean training.steps?",
    "--batch-size 5": "--batch-size: there is no such option; did you mean training.batch_size",
    "--optimizer.beta1=1": "--optimizer.beta1 1.0: expected 0 <= value < 1",
    "quickstart": "quickstart: expected an option, --key value",
    "-x": "-x: expected an option",
    "--data.path here": "--data.path here: data.source shapes draws its images, so expected null",
    "--model.generator.attention.options.variant old": "variant old: expected one of code, paper, v1",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_named_in_one_line_with_the_option_as_it_is_typed(words, capsys):
    assert main(["train", "quickstart", *words.split(), "--print_config"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sagan train: error: ") and error.count("\n") == 1
    assert WRONG[words] in error
