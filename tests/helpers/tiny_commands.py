"""Commands as the pages show them, run at tiny scale."""

import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import yaml

from sagan.commands.app import main
from sagan.presets import load_config, presets
from sagan.runs.networks import load_generator
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import TINY, tokens

# How commands that are not run begin, and why they are not.
SKIPPED = {
    "make test": "runs this test",
    "make test-gpu": "takes minutes; tests/training/test_gpu.py and tests/test_bench.py test its parts",
    "python experiments/gpu/check.py": "the same",
    "make lint": "a part of `make test`",
    "make types": "a part of `make test`",
    "make docs": "takes minutes",
    "make wheel": "test_packaging.py builds one",
    "pip": "changes the environment that this test runs in",
    ".venv/bin/python -m pytest": "runs tests, of which this is one",
    "git worktree": "changes the repository that this test runs in",
    "python experiments/speed/versions.py": "needs a checkout of an older version",
    "tensorboard": "a server that does not end",
    "python -m experiments.soak.measure": "trains for an hour",
    "python -m experiments.cifar10_jpeg": "downloads CIFAR-10; test_experiments.py tests the rest",
    "python -m experiments.attention-tab.measure": "measures for minutes; test_page_numbers.py repeats a part of it",
    "python -m experiments.scaling.measure": "takes ten minutes",
    "python -m experiments.scaling.predict": "writes into the checkout; test_page_numbers.py repeats it",
    "python -m experiments.speed.operations": "writes into the checkout",
    "python -m experiments.streaming.measure": "takes the rights of root; test_packed.py has a small one",
    "python -m samples.attention_tab": "needs Chromium and a run with many records",
    "python -m experiments.distant-parts.maps": "needs the runs of an ablation; test_distant_parts.py tests it",
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
        "logging.attention_every": 0,
    },
    "evaluation": {"every": 2, "num_samples": 4, "num_real": 4, "extractor.name": "efficientnet-lite0"},
    "variants": {"none": {"model.*.attention.kind": "none"}},
    "sizes": {"cpu": None, "gpu": None, "far": None, "near": None, "pilot": None},
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
    "push": {},
    "ablate": {},
}


def value_of(words, option):
    """Return the value of an option in a command, or None."""
    settings = dict(zip(words, words[1:], strict=False)) | dict(w.split("=", 1) for w in words if "=" in w)
    return settings.get(option)


def make_tiny(words, images):
    """Return a `sagan` command that costs next to nothing, and make the folders and plans that it needs."""
    verb, options = words[0], dict(TINY_OPTIONS.get(words[0], {}))
    folders = [value_of(words, f"--{name}") for name in ("data.path", "nearest", "real", "fake")]
    for folder in filter(None, folders):
        if Path(folder).exists():
            continue
        if folder.endswith(".zip"):
            shutil.make_archive(folder.removesuffix(".zip"), "zip", images)
        elif value_of(words, "--data.source") == "own_data.Arrays":
            write_arrays(Path(folder))
        elif folder not in ("shapes", "cifar10", "cifar100", "fashion-mnist", "stl10"):
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
    if (verb == "bench" and "--data" not in words) or "--print_config" in words:
        options["data.num_classes"] = 10
    if verb == "attention" and value_of(words, "--data.path"):  # of as many classes as the weights that it is for
        ten = load_generator(words[1]).num_classes == 10  # and not a tiny run's, which an earlier command exported
        options |= {"data.source": "shapes", "data.path": "null"} if ten else {"data.path": images}
    if verb == "sample":
        options |= tiny_samples(words)
    if value_of(words, "--split") == "test":
        options["data.source"] = "shapes"
    for option in ("nearest", "truncation_curve"):
        if value_of(words, f"--{option}") == "cifar10":  # which would be downloaded
            options[option] = images
    return [*words, *tokens(options)]


def write_arrays(folder):
    """Write images of noise with two classes, as arrays."""
    (folder / "train").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
    np.save(folder / "train" / "images.npy", noise)
    np.save(folder / "train" / "labels.npy", np.arange(8) % 2)


def tiny_samples(words):
    """Return options that make a `sagan sample` tiny, and empty the folder that it writes."""
    options, out, classes = {}, Path(value_of(words, "--out") or ""), value_of(words, "--classes")
    if value_of(words, "--truncation_curve"):
        options["num"] = 12
    if value_of(words, "--video"):
        options["num"] = 2
    elif value_of(words, "--num"):
        options["num"] = min(12, int(value_of(words, "--num")))
    if classes and classes[0].isalpha():  # names, which a tiny run has too, but others
        origin = load_generator(words[1]).origin
        options["classes"] = ",".join(origin.class_names[: classes.count(",") + 1])
    if not out.suffix and out.is_dir() and out != Path():
        shutil.rmtree(out)
    return options


def ensure_run(run_dir, images):
    """Train the run of a directory if there is none yet, from the preset of that name if there is one."""
    if not Path(run_dir).exists():
        name = Path(run_dir).name
        run(["sagan", "train", name if name in presets() else "quickstart", "--run_dir", run_dir], images)


def ensure_weights(file):
    """Copy the trained weights to where a command expects exported ones, if nothing has exported any."""
    for name in {Path(file).name, "discriminator.safetensors"}:
        copy = Path(file).with_name(name)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "experiments/cifar10-cpu" / name, copy)


def run(words, images):
    """Run a command as `make_tiny` has it. Fail if it fails, or if nobody has said how to run it."""
    program, *rest = words
    if any(shlex.join(words).startswith(beginning) for beginning in SKIPPED):
        return
    if program == "torchrun":
        run_in_two_processes(words, images)
    elif program == "sagan":
        run_verb(rest, images)
    elif program == "python" and (ROOT / rest[0]).is_file():
        ensure_run(rest[1], images)
        Path(rest[2]).parent.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [rest[0], *map(str, rest[1:])])
            runpy.run_path(str(ROOT / rest[0]), run_name="__main__")
    else:
        pytest.fail(f"{shlex.join(words)}: say here how to run {program}, or why not")


def run_verb(rest, images):
    """Run a command of `sagan`, in this process."""
    target = None
    if ">" in rest:
        rest, target = rest[: rest.index(">")], rest[rest.index(">") + 1]
    if len(rest) > 1 and rest[1].startswith("runs/"):
        ensure_run(rest[1], images)
    if source := value_of(rest, "--training.init_from"):
        ensure_run(source, images)
    if len(rest) > 1 and rest[1].endswith(".safetensors"):
        ensure_weights(rest[1])
    with open(target or "/dev/null", "w") as file, redirect_stdout(file):
        code = main(make_tiny(rest, images))
    assert code == 0, f"sagan {shlex.join(rest)} ends with exit code {code}"


def run_in_two_processes(words, images):
    """Run a command of torchrun, with a run directory of its own."""
    at = words.index("-m")
    assert words[at + 1] == "sagan"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    tiny = [*make_tiny(words[at + 2 :], images), f"--run_dir=runs/{len(list(Path('runs').glob('*')))}"]
    succeed([*launcher, "-m", "sagan", *tiny], words)


def succeed(arguments, words):
    """Run a program, and fail with its complaint if it fails."""
    done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, timeout=250)
    assert done.returncode == 0, f"{shlex.join(words)} fails: {done.stderr}"


def tiny_config(name=None, overrides=()):
    """Return what `load_config` returns, at tiny scale."""
    scenes = {"data.source": "shapes", "data.path": "null", **TINY_TRAIN, "data.num_classes": 10}
    return load_config(name, [*overrides, *(f"{key}={value}" for key, value in scenes.items())])
