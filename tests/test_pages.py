"""Every command and Python block that a page or a help page shows is run, at tiny scale, in their order."""

import inspect
import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sagan.benchmark.step
import sagan.data.shapes
import sagan.evaluation
import sagan.presets
import sagan.runs.evaluation
import sagan.training.evaluator
from sagan import train
from sagan.ablation.executors import EXECUTORS
from sagan.commands.app import VERBS
from sagan.presets import presets
from tests.helpers.hub import COMMIT, RecordedApi
from tests.helpers.pages import PAGES, ROOT, commands, other_blocks, python_blocks, short, spans_of_code
from tests.helpers.tiny_commands import SKIPPED, ensure_run, run, tiny_config
from tests.helpers.tiny_runs import cheap_extractor

README = ROOT / "README.md"
OWN_ATTENTION = ROOT / "tests/helpers/own_attention.py"
OWN_DATA = ROOT / "tests/helpers/own_data.py"


def help_commands():
    """Return the examples of the help pages that no page shows. The README has that of torchrun."""
    shown = [words for page in PAGES for words in commands(page.read_text())]
    pages = "\n".join(inspect.getdoc(getattr(import_module(f"sagan.commands.{verb}"), verb)) for verb in VERBS)
    examples = re.findall(r"^  (sagan .*)$", pages, flags=re.M)
    found = [shlex.split(line, comments=True) for line in examples]
    return [words for words in found if words not in shown]


def page_commands():
    """Return each command that a page shows, once, as a test parameter that names the first page."""
    found = {}
    for page in PAGES:
        for words in commands(page.read_text()):
            line = shlex.join(words)
            found.setdefault(line, pytest.param(words, id=f"{short(page)}: {line}"))
    return list(found.values())


def train_here(jobs, at_once, stopped):
    """Train the jobs of a plan in this process, which is faster than to start one for each."""
    for job in jobs:
        train(job.config)
        yield job


def once(function):
    """Return a function that computes its result only once for the same arguments."""
    results = {}

    def remembered(*arguments):
        key = repr(arguments)
        if key not in results:
            results[key] = function(*arguments)
        return results[key]

    return remembered


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, image_folder):
    """Prepare an empty folder to work in, extractors without weights, few scenes, and measurements without waiting."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("pages")
        patch.chdir(root)
        patch.syspath_prepend(root)
        patch.delitem(sys.modules, "own_attention", raising=False)
        patch.delitem(sys.modules, "own_data", raising=False)
        for own in (OWN_ATTENTION, OWN_DATA):
            shutil.copy(own, root)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "datasets")
        patch.setattr("huggingface_hub.HfApi", RecordedApi)
        patch.setattr(RecordedApi, "folder", pushed := root / "hub" / COMMIT, raising=False)
        patch.setattr("huggingface_hub.hf_hub_download", lambda repository, name, **more: str(pushed / name))
        patch.setenv("SAGAN_CACHE", str(root / "cache"))
        patch.setenv("PYTHONPATH", str(ROOT))
        for module in (sagan.evaluation, sagan.training.evaluator, sagan.runs.evaluation):
            patch.setattr(module, "build_extractor", cheap_extractor)
        patch.setattr(sagan.data.shapes, "SPLITS", {"train": range(0, 40), "test": range(40, 60)})
        patch.setattr(sagan.benchmark.step, "SECONDS", 0.0)
        patch.setattr("torch.compile", lambda function, **options: function)  # `sagan bench` would take a minute
        patch.setattr(sagan.benchmark.step, "ceiling", lambda *arguments: 1.0)
        for name in ("speeds", "parts"):  # made tiny, most steps to measure are the same
            patch.setattr(sagan.benchmark.step, name, once(getattr(sagan.benchmark.step, name)))
        patch.setattr(sagan.presets, "load_config", tiny_config)
        patch.setitem(EXECUTORS, "local", train_here)
        yield image_folder


@pytest.mark.parametrize("words", page_commands())
def test_command_of_a_page(words, workplace):
    run(words, workplace)


@pytest.mark.parametrize("words", help_commands(), ids=shlex.join)
def test_example_of_a_help_page(words, workplace):
    run(words, workplace)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page.read_text())], ids=short)
def test_python_blocks_of_a_page(page, workplace):
    ensure_run("runs/quickstart", workplace)
    for block in python_blocks(page.read_text()):
        exec(block, {"__name__": "a_page"})


def test_the_python_interface_of_the_readme_gives_what_its_comments_say(workplace):
    (block,) = python_blocks(README.read_text())
    names = {}
    exec(block, names)
    assert str(names["images"].dtype) == "torch.uint8" and tuple(names["images"].shape) == (20, 3, 32, 32)
    assert Path("attention.png").is_file()
    assert names["generator"].origin.averaged and not names["generator"].training


@pytest.mark.parametrize(("own", "page"), [(OWN_ATTENTION, "attention"), (OWN_DATA, "data")])
def test_the_own_code_that_is_tested_is_that_of_the_page(own, page):
    about, _, code = own.read_text().partition('"""\n\n')
    assert about.count("\n") == 0
    assert code in python_blocks((ROOT / f"sagan/{page}/README.md").read_text())


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_no_block_escapes(page):
    """Blocks are marked as sh or python, so that they are run."""
    assert other_blocks(page.read_text()) == []


def test_exceptions_are_needed():
    shown = [shlex.join(words) for page in PAGES for words in commands(page.read_text())]
    assert [beginning for beginning in SKIPPED if not any(line.startswith(beginning) for line in shown)] == []


def test_targets_of_make_and_selections_of_tests_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for page in PAGES:
        text = page.read_text()
        named = [words[1:2] for words in commands(text) if words[0] == "make"]
        named += [span.split()[1:2] for span in spans_of_code(text) if span.startswith("make ")]
        assert [names for names in named if names[0] not in targets] == []
        for words in (shlex.split(span) for span in spans_of_code(text) if span.startswith("pytest ")):
            files = [ROOT / word for word in words if word.startswith("tests/")]
            tests = "".join(file.read_text() for file in files)
            chosen = words[words.index("-k") + 1] if "-k" in words else ""
            assert files and re.search(rf"def test_\w*{chosen}", tests), shlex.join(words)


def test_every_verb_and_every_preset_is_shown():
    shown = {words[1] for words in commands(README.read_text()) if words[0] == "sagan"}
    assert set(VERBS) <= shown
    table = (ROOT / "experiments/README.md").read_text()
    assert [name for name in presets() if f"| [`{name}`]({name}.yaml) |" not in table] == []


def test_a_command_that_fails_or_that_nobody_knows_is_noticed(workplace):
    text = (
        "```sh\nfrobnicate now   # a comment\nsagan train \\\n  nosuch\n```\nand\n```python\nsagan()\n```\n"
        "```\nx\n```\n"
        "`sagan train`, `sagan train --help`, `sagan train RUN` and `sagan\nsample x`"
    )
    assert commands(text) == [["frobnicate", "now"], ["sagan", "train", "nosuch"], ["sagan", "sample", "x"]]
    assert other_blocks(text) == [""]
    with pytest.raises(pytest.fail.Exception, match="say here how to run frobnicate"):
        run(["frobnicate", "now"], workplace)
    with pytest.raises(AssertionError, match="sagan train nosuch ends with exit code 2"):
        run(["sagan", "train", "nosuch"], workplace)
