"""Every command that the README and the help pages show is run, at tiny scale, in their order."""

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

import sagan.benchmark.step
import sagan.data.shapes
import sagan.evaluation
import sagan.runs.evaluation
import sagan.training.evaluator
from sagan.commands.app import VERBS, main
from sagan.presets import presets
from tests.helpers.tiny_runs import TINY, cheap_extractor, tokens

README = Path(__file__).parent.parent / "README.md"
OWN_ATTENTION = Path(__file__).parent / "helpers" / "own_attention.py"

# Programs that are not run, and why.
SKIPPED = {
    "make": "sets up the environment that this test runs in; `make test` runs this test",
    "pip": "changes the environment that this test runs in",
    "tensorboard": "a server that does not end",
    "git": "fetches what is here already",
    "cd": "each command runs in the same folder",
}

# A plan in the place of the shipped ones, which take hours.
TINY_PLAN = {
    "question": "Does it run?",
    "preset": "quickstart",
    "baseline": "none",
    "metric": "fid_efficientnet_lite0",
    "seeds": [0],
    "settings": {
        "model.*.channels": 8,
        "device": "cpu",
        "training.batch_size": 4,
        "training.steps": 2,
        "data.memory_gb": 0,
        "data.workers": 0,
        "logging.images_every": 0,
    },
    "evaluation": {"every": 2, "num_samples": 4, "num_real": 4, "extractor.name": "efficientnet-lite0"},
    "variants": {"none": {"model.*.attention.kind": "none"}},
    "sizes": {"cpu": None, "gpu": None},
}
# What a plan needs for its power to be known.
PRIMARY = {"seeds": [0, 1], "variants": {**TINY_PLAN["variants"], "sagan": {}}, "primary": ["sagan"]}

# What makes each verb cheap: appended to the command, so it wins.
TINY_TRAIN = {
    **TINY,
    "data.resolution": 32,
    "data.memory_gb": 0,
    "data.workers": 0,
    "data.num_classes": "null",
    "model.generator.attention.resolutions": 16,
    "model.discriminator.attention.resolutions": 16,
    "evaluation.every": 0,
    "logging.images_every": 0,
    "checkpoint.every": 1,
}
TINY_OPTIONS = {
    "train": TINY_TRAIN,
    "pack": TINY_TRAIN,
    "bench": TINY_TRAIN,
    "sample": {"batch_size": 16},
    "evaluate": {"num_samples": 12, "num_real": 12, "batch_size": 6},
    "attention": {"num": 1},
    "export": {},
    "ablate": {},
}


def commands(text):
    """The commands of the ```sh blocks of a text, a line each, without comments."""
    blocks = re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", text, flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def python_blocks(text):
    """The ```python blocks of a text."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def help_commands():
    """The examples of the help pages, but that of torchrun, which the README has too."""
    pages = "\n".join(inspect.getdoc(getattr(import_module(f"sagan.commands.{verb}"), verb)) for verb in VERBS)
    examples = re.findall(r"^  (sagan .*)$", pages, flags=re.M)
    return [shlex.split(line, comments=True) for line in examples]


def value_of(words, option):
    """The value of an option in a command, or None."""
    settings = dict(zip(words, words[1:], strict=False)) | dict(w.split("=", 1) for w in words if "=" in w)
    return settings.get(option)


def make_tiny(words, images):
    """A `sagan` command that costs next to nothing, and what it needs to exist."""
    verb, options = words[0], dict(TINY_OPTIONS.get(words[0], {}))
    folders = [value_of(words, f"--{name}") for name in ("data.path", "nearest", "real", "fake")]
    for folder in filter(None, folders):
        if not Path(folder).exists() and folder not in ("shapes", "cifar10", "cifar100", "fashion-mnist", "stl10"):
            shutil.copytree(images, folder)
    if "--real" in words:
        options = {"batch_size": 6}
    if "--attention" in words:
        return [*words, *tokens({"batch": 2, "channels": 32, "sizes": 8, "repeats": 1})]
    if verb == "ablate":
        if not words[1].endswith(".yaml"):  # the name of a shipped plan
            words = [verb, f"experiments/{words[1]}/plan.yaml", *words[2:]]
        Path(words[1]).parent.mkdir(parents=True, exist_ok=True)
        plan = {**TINY_PLAN, **PRIMARY} if "--power" in words else TINY_PLAN
        Path(words[1]).write_text(yaml.safe_dump(plan))
    if verb in ("train", "pack", "bench") and not value_of(words, "--data.source"):
        options["data.source"] = "folder" if value_of(words, "--data.path") else "shapes"
    if verb == "bench" or "--print_config" in words:
        options["data.num_classes"] = 10
    if verb == "sample" and value_of(words, "--num"):
        options["num"] = min(12, int(value_of(words, "--num")))
    if value_of(words, "--split") == "test":
        options["data.source"] = "shapes"
    if value_of(words, "--nearest") == "cifar10":  # which would be downloaded
        options["nearest"] = images
    return [*words, *tokens(options)]


def ensure_run(run_dir, images):
    """Trains a run, of the preset that its name is, where there is none yet."""
    if not Path(run_dir).exists():
        name = Path(run_dir).name
        run(["sagan", "train", name if name in presets() else "quickstart", "--run_dir", run_dir], images)


def run(words, images):
    """Runs a command as `make_tiny` has it; fails where it fails, or where nobody says how to run it."""
    program, *rest = words
    if program in SKIPPED:
        return
    target = None
    if ">" in rest:
        rest, target = rest[: rest.index(">")], rest[rest.index(">") + 1]
    if program == "torchrun":
        at = rest.index("-m")
        assert rest[at + 1] == "sagan"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        tiny = [*make_tiny(rest[at + 2 :], images), f"--run_dir=runs/{len(list(Path('runs').glob('*')))}"]
        done = subprocess.run([*launcher, "-m", "sagan", *tiny], stderr=subprocess.PIPE, text=True, timeout=250)
        assert done.returncode == 0, f"{shlex.join(words)} fails: {done.stderr}"
    elif program == "sagan":
        if len(rest) > 1 and rest[1].startswith("runs/"):
            ensure_run(rest[1], images)
        with open(target or "/dev/null", "w") as file, redirect_stdout(file):
            code = main(make_tiny(rest, images))
        assert code == 0, f"{shlex.join(words)} ends with exit code {code}"
    else:
        pytest.fail(f"{shlex.join(words)}: say here how to run {program}, or why not")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, image_folder):
    """An empty folder to work in, extractors without weights, few scenes, and measurements that take no time."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("readme")
        patch.chdir(root)
        patch.syspath_prepend(root)
        patch.delitem(sys.modules, "own_attention", raising=False)
        (root / "own_attention.py").write_text(python_blocks(README.read_text())[1])
        patch.setenv("SAGAN_CACHE", str(root / "cache"))
        for module in (sagan.evaluation, sagan.training.evaluator, sagan.runs.evaluation):
            patch.setattr(module, "build_extractor", cheap_extractor)
        patch.setattr(sagan.data.shapes, "SPLITS", {"train": range(0, 40), "test": range(40, 60)})
        patch.setattr(sagan.benchmark.step, "SECONDS", 0.0)
        patch.setattr(sagan.benchmark.step, "matmul_gflops", lambda *arguments: 1.0)
        yield image_folder


@pytest.mark.parametrize("words", commands(README.read_text()), ids=shlex.join)
def test_command_of_the_readme(words, workplace):
    run(words, workplace)


@pytest.mark.parametrize("words", help_commands(), ids=shlex.join)
def test_example_of_a_help_page(words, workplace):
    run(words, workplace)


def test_the_python_interface_of_the_readme(workplace):
    ensure_run("runs/quickstart", workplace)
    interface, _ = python_blocks(README.read_text())
    names = {}
    exec(interface, names)
    assert not names["generator"].training  # the second one, from the run
    built = names["build_generator"](names["config"])
    assert built.blocks[0].conv1.weight.shape[0] == 32 * 4
    z, y = torch.randn(2, built.z_dim), torch.tensor([0, 1])
    variables = {"generator": built, "discriminator": names["discriminator"], "z": z, "y": y}
    exec(re.search(r"# (images = .*; logits = .*)", interface)[1], variables)
    assert variables["images"].shape == (2, 3, 32, 32) and variables["logits"].shape == (2,)


def test_the_own_kind_that_is_tested_is_the_one_of_the_readme():
    about, _, code = OWN_ATTENTION.read_text().partition('"""\n\n')
    assert about.count("\n") == 0 and code == python_blocks(README.read_text())[1]


def test_every_verb_is_shown_in_the_readme():
    shown = {words[1] for words in commands(README.read_text()) if words[0] == "sagan"}
    assert set(VERBS) <= shown


def test_a_command_that_fails_or_that_nobody_knows_is_noticed(workplace):
    text = "```sh\nfrobnicate now   # a comment\nsagan train \\\n  nosuch\n```\nand\n```python\nsagan()\n```"
    assert commands(text) == [["frobnicate", "now"], ["sagan", "train", "nosuch"]]
    with pytest.raises(pytest.fail.Exception, match="say here how to run frobnicate"):
        run(["frobnicate", "now"], workplace)
    with pytest.raises(AssertionError, match="sagan train nosuch ends with exit code 2"):
        run(["sagan", "train", "nosuch"], workplace)
