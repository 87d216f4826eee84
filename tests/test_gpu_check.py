"""`make test-gpu`: its parts, its report and the processes that it ends."""

import json
import re
import sys
import time

import psutil
import pytest

from experiments.gpu import check
from experiments.gpu.check import Part
from sagan.config import UserError
from sagan.evaluation import weights
from tests.helpers.pages import ROOT


def program(*lines):
    return [sys.executable, "-c", "\n".join(lines)]


def test_the_report_is_written_after_every_part(tmp_path):
    out, numbers = tmp_path / "report.md", tmp_path / "numbers.json"
    write = f"open({str(numbers)!r}, 'w').write({json.dumps({'forms': {'auto': {}}})!r})"
    parts = [
        Part("First", program("print('hello')")),
        Part("Second", program(f"print(open({str(out)!r}).read().count('hello'))")),
        Part("Broken", program("raise SystemExit(7)")),
        Part("Step", program(write), numbers=numbers, forms=frozenset({"auto", "plain"})),
    ]
    failures = check.report(parts, "cpu", time.monotonic() + 60, tmp_path, out)
    said = out.read_text()
    assert failures == 2
    for words in (
        "## First: passed",
        "## Second: passed",
        "## Broken: failed with exit code 7",
        "## Step: failed without plain",
    ):
        assert words in said
    second = said.partition("## Second")[2].partition("```text")[2]
    assert second.split()[0] == "2"  # the command and the output of the first part
    assert '"auto": {}' in said


def ended(pid):
    """Wait for a process that has been killed, and return whether it has ended."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_what_a_part_has_started_ends_with_it(tmp_path):
    sleeper = f"import time; open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())); time.sleep(60)"
    start = f"subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)"
    code, _ = check.run(program("import subprocess, sys, time", start, "time.sleep(3)"), 20)
    pid = int((tmp_path / "pid").read_text())
    assert code == 0 and ended(pid)


def test_a_part_without_time_is_left_out(tmp_path):
    lines, failed = check.outcome(Part("Late", program("print('ran')")), 3, tmp_path)
    assert failed and lines[0] == "## Late: left out" and "ran" not in lines


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_parts_have_names_and_measure_what_they_must(tmp_path, device):
    parts = check.parts(device, tmp_path)
    assert len({check.slug(part.title) for part in parts}) == len(parts)
    benchmarks = [part for part in parts if part.numbers]
    assert len(benchmarks) == len(check.SIZES[device])
    for part in benchmarks:
        asked = part.command[part.command.index("--forms") + 1].split(",")
        assert "auto" in part.forms and part.forms - {"auto"} <= {*asked}


def test_a_command_that_takes_too_long_is_ended():
    code, said = check.run(program("print('began', flush=True)", "import time", "time.sleep(60)"), 2)
    assert code == 124 and said == "began\n"


def test_an_unknown_part_is_named_with_those_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check.py", "--device", "cpu", "--parts", "nosuch"])
    with pytest.raises(SystemExit, match="2"):
        check.main()
    assert "--parts nosuch: expected some of tests training" in capsys.readouterr().err


def test_the_script_of_cifar10_knows_the_error_of_missing_weights(tmp_path, monkeypatch):
    """It scores without Inception only if its weights are missing."""
    (pattern,) = re.findall(r'grep -q "(.*?)"', (ROOT / "experiments/gpu/cifar10.sh").read_text())

    def refused(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    with pytest.raises(UserError, match=pattern):
        weights.published_weights(None, "https://example.org/weights.pth", "0" * 64, "weights", "--extractor.weights")
