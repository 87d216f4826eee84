"""Input that nobody means: each is one line that names the option or the file, before any long work."""

import os
import re

import pytest
import torch
import yaml

from sagan.commands.app import main
from sagan.config import ConfigError
from sagan.config.plain_yaml import MOST, load_yaml
from sagan.models.build import build_discriminator, build_generator
from sagan.presets import load_config
from sagan.training.least_memory import activation_bytes, is_small, require_memory_for
from tests.helpers.tiny_runs import TINY, tokens


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """said("train", ...): the exit code in an empty folder, and the one line without "sagan train: error: "."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(list(words))
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and len(error) < 600, error
        return code, re.sub(r"^sagan \w+: error: ", "", error).rstrip("\n")

    return run


TRAIN = ("train", "quickstart", "--device", "cpu")
PATH = "expected a path in UTF-8, shorter than 4,096 bytes, each name in it shorter than 256"
LONG = "9" * 5000
WORDS = {
    ("--training.batch_size", "1" + "0" * 22): "expected an integer of at most 64 bits",
    ("--training.steps", str(2**63)): "expected an integer of at most 64 bits",
    ("--training.seed", LONG): f"--training.seed {'9' * 100}... (5,000 characters): expected an integer",
    ("--data.workers", "100000"): "--data.workers 100000: expected 0 <= value <= 512",
    ("--run_dir", ""): f'--run_dir "": {PATH}',
    ("--run_dir", "a" * 256): PATH,
    ("--run_dir", "a/" * 2048): f"(4,096 characters): {PATH}",
    ("--run_dir", "caf\udce9"): f"--run_dir caf\\udce9: {PATH}",
    ("--data.path", "a\0b"): f"--data.path a\\x00b: {PATH}",
    ("--data.resolution", "[" * 5000 + "]" * 5000): "(10,000 characters): expected an integer or a list",
    ("--model.generator.init", "x" * 3000): "(3,000 characters): expected one of xavier, orthogonal",
    ("--device", "meta"): "device meta: not usable with this build of torch",
    ("--optimizer.generator_lr", "1e400"): "--optimizer.generator_lr 1e400: expected a number",
    ("--model.generator.channels", str(9 * 10**18)): f"model.generator.channels {9 * 10**18}: too large to allocate",
    ("--model.generator.attention.options", '{a: !!int ""}'): 'attention.options {a: !!int ""}: expected a mapping',
    ("--data.resolution", "[!!timestamp x, 3]"): "data.resolution [!!timestamp x, 3]: expected an integer or a list",
    ("--model.generator.z_dim", str(9 * 10**18)): f"model.generator.z_dim {9 * 10**18}",
    ("--model.generator.channels", str(2**31)): f"model.generator.channels {2**31}: too large to allocate",
    (
        "--model.discriminator.channels",
        str(2**31),
    ): f"model.discriminator.channels {2**31}: too large to allocate",
    ("--model.generator.channels", "20000"): "model.generator.channels 20000, model.generator.z_dim 8, model.discr",
    ("--model.generator.channels", str(2**20), "--model.generator.attention.kind", "none"): "needs at least",
    ("--model.generator.z_dim", str(10**10)): f"model.generator.z_dim {10**10}",
    ("--training.batch_size", str(10**12)): f"training.batch_size {10**12} and training.micro_batches 1 with 32x32",
}


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words)[:50].encode("ascii", "replace").decode())
def test_an_option_of_train(words, said):
    code, error = said(*TRAIN, *tokens(TINY), *words)
    assert code == 2 and WORDS[words] in error, error
    planned = said(*TRAIN, *tokens(TINY), *words, "--dry_run")
    assert (planned[0], planned[1].partition(", but ")[0]) == (code, error.partition(", but ")[0])  # free memory varies
    assert os.listdir() == []


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "training:\n  steps: 3\n  steps: 2\n": "steps is set on line 2 and again on line 3",
    "training: {steps: 3}\ndata: {flip: true}\ntraining: {seed: 1}\n": "training is set on line 1 and again on line 3",
    "training: {steps: 3}\ntraining.steps: 2\n": "training.steps: set twice",
    BOMB: f"more than {MOST:,} values",
    "run_dir: " + "[" * 5000 + "]" * 5000: "too deep to read",
    "run_dir: &a [*a]\n": "an alias inside what it stands for in line 1",
    "training: {steps: " + LONG + "}": "integer",
    "training: {steps: 0x" + "f" * 6000 + "}": "an integer of 6,002 characters in line 1",
    "training: {steps: 0b" + "1" * 40_000 + "}": "an integer of 40,002 characters in line 1",
    "data: {resolution: [3, 0" + "7" * 9000 + "]}": "an integer of 9,001 characters in line 1",
    "training: {steps: " + ":".join(["59"] * 5000) + "}": "an integer of 14,999 characters in line 1",
    **{f"a: {text}\n": "a value that does not fit its tag" for text in ('!!int ""', '!!float ""', "!!bool maybe")},
    "a: !!timestamp foo\n": "a value that does not fit its tag",
    "run_dir: 2026-02-30\n": "day is out of range",
    "run_dir: !!python/object/apply:os.system [ls]\n": "could not determine a constructor",
    "\x07": "special characters are not allowed",
    "a: b: c": "mapping values are not allowed here in line 1",
    "- 1\n- 2\n": "expected options as `section: {key: value}`",
}


@pytest.mark.parametrize("text", YAML, ids=lambda text: repr(text[:25]))
def test_a_yaml_file(text, said, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    code, error = said("train", "mine.yaml")
    assert code == 2 and error.startswith("mine.yaml: ") and YAML[text] in error, error


def test_yaml_with_aliases_as_people_use_them():
    text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n"
    assert load_yaml(text) == yaml.safe_load(text) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


PLAN = {
    "question": "?",
    "preset": "quickstart",
    "baseline": "none",
    "metric": "kid_mean",
    "seeds": [0],
    "evaluation": {"every": 2},
    "variants": {"none": {}},
}
PLANS = {
    "a margin of many digits": ({"margin": 10**400}, "cannot be read as a plan: an integer of 401 characters"),
    "run_dir in the settings": ({"settings": {"run_dir": "x"}}, "run_dir x: a plan gives each run a directory"),
    "run_dir in a variant": (
        {"variants": {"none": {"run_dir": "x"}}},
        "variants.none: run_dir x: a plan gives each run",
    ),
    "seed in a variant": ({"variants": {"none": {"training.seed": 4}}}, "training.seed 4: the plan's seeds set it"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan(name, said, tmp_path):
    changes, words = PLANS[name]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PLAN, **changes}))
    code, error = said("ablate", "plan.yaml", "--report-only")
    assert code == 2 and error.startswith("plan.yaml: ") and words in error, error


def test_a_plan_with_more_jobs_than_a_machine_bears(said, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    code, error = said("ablate", "plan.yaml", "--jobs", "99999999999")
    assert (code, error) == (2, "--jobs 99999999999: expected 0 < value <= 512")


OTHERS = {
    ("bench", "--attention", "--batch", str(10**8)): (
        2,
        f"batch {10**8}, channels 256, sizes [16, 32]: needs at least",
    ),
    ("bench", "--attention", "--threads", "100000"): (2, "--threads 100000: expected 0 < value <= 512"),
    ("bench", "quickstart", "--training.batch_size", str(10**12)): (2, f"training.batch_size {10**12}"),
    ("sample", "x" * 5000): (1, "File name too long"),
    ("train", "x" * 5000 + ".yaml"): (1, "File name too long"),
    ("sample", "run", "--out", "b" * 3000 + ".png"): (2, "(3,004 characters): expected a path"),
    ("sample", "run", "--seed", "9" * 50): (2, f"--seed {'9' * 50}: expected an integer of at most 64 bits"),
}


@pytest.mark.parametrize("words", OTHERS, ids=lambda words: " ".join(words)[:40])
def test_other_verbs(words, said):
    code, text = OTHERS[words]
    found, error = said(*words)
    assert found == code and text in error, error


def test_images_that_do_not_fit_into_memory(said, run_dir):
    for verb in ("sample", "attention"):
        code, error = said(verb, str(run_dir), "--num", str(10**12))
        assert code == 2 and error.startswith(f"num {10**12} images") and error.endswith("GiB free"), error


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "quickstart", *tokens(TINY), "--training.steps", "1", "--run_dir", str(folder)]) == 0
    return folder


def test_the_memory_of_a_step_grows_with_the_batch_and_counts_no_weight():
    small = ["data.num_classes=4", "model.generator.channels=8", "model.discriminator.channels=8"]

    def per_image(*overrides):
        config = load_config(None, [*small, *overrides])
        with torch.device("meta"):
            return activation_bytes(config, build_generator(config), build_discriminator(config))

    config = load_config(None, small)
    measured = saved_by_a_step(config)
    # Convolutions may keep weights in another form; without a GPU or a CPU, one activation more is kept.
    assert 0.5 * measured < per_image() < 1.1 * measured + 4 * 32 * 32 * 32
    assert per_image("data.resolution=64") > per_image()
    assert is_small(config, torch.device("cpu"))
    with pytest.raises(ConfigError, match="training.batch_size 1048576"):
        require_memory_for(load_config("cifar10", ["training.batch_size=1048576"]), torch.device("cpu"))


def saved_by_a_step(config):
    """Return the bytes for each image that a real update keeps, by the size of a batch that is added to another."""
    generator, discriminator = build_generator(config), build_discriminator(config)

    def kept(n):
        sizes = {}

        def pack(tensor):
            sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = torch.zeros(n, dtype=torch.long)
            discriminator(generator(torch.randn(n, generator.z_dim), y), y)
        return sum(storage.nbytes() for storage in sizes.values())

    return (kept(8) - kept(4)) / 4
