"""`make test-gpu`: tests, benchmark and a short training on a GPU, and one report of it all in Markdown.

    python experiments/gpu/check.py [--device cuda|cpu] [--minutes 9] [--parts tests step-of-imagenet] [--out report.md]

The report is written anew after each part, so that a limit from outside leaves what was found until then. On a CPU it
does what needs no GPU, at small sizes, so that the script itself is known to work.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import psutil
import torch

ROOT = Path(__file__).parents[2]
SIZES = {
    "cuda": {
        "cifar10": ["cifar10", "--training.batch_size", "64"],
        "imagenet": ["imagenet", "--training.batch_size", "256"],
    },
    "cpu": {
        "quickstart": ["quickstart", "--training.batch_size", "4", "--model.generator.channels", "4"],
    },
}
FORMS = {
    "cifar10": ["eager", "compiled", "graphs", "plain", "mimicry"],
    "imagenet": ["eager", "plain"],  # `auto` is graphs, and the compiler takes minutes
    "quickstart": ["plain"],
}
"""What `sagan bench` measures in addition to `auto`. All but torch-mimicry, which may be missing, has to work."""
TRAINED = {"cuda": ["--training.steps", "1500"], "cpu": ["--training.steps", "4", "--training.batch_size", "4"]}
SCORED = {"cuda": "2000", "cpu": "20"}
EXTRACTOR = ["--extractor.name", "efficientnet-lite0"]
GPU_TESTS = ["tests/training/test_recording.py", "tests/data/test_batches.py", "tests/training/test_gpu.py"]
COMPILER = "real_compiler"
"""Tests that take minutes. Only they and NCCL's may hang, and a thread that ends a test ends pytest and its table."""
TEST_SECONDS = 270  # at most, so that a test that hangs leaves time for the numbers
LOOK_SECONDS = 1.0  # between looks at the processes that a part has started


def main() -> int:
    """Run every part within the time, write the report, and return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="in all; what would begin later is left out")
    parser.add_argument("--parts", nargs="+", help="titles of the parts to run, such as step-of-imagenet; default: all")
    parser.add_argument("--out", type=Path, default=None, help="default: report-DEVICE.md beside this file")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("make test-gpu: no CUDA device here; DEVICE=cpu runs the half that needs none", file=sys.stderr)
        return 2
    out = options.out or Path(__file__).with_name(f"report-{options.device}.md")
    with tempfile.TemporaryDirectory() as folder:
        chosen = {slug(part.title): part for part in parts(options.device, Path(folder))}
        if unknown := set(options.parts or ()) - chosen.keys():
            parser.error(f"--parts {' '.join(sorted(unknown))}: expected some of {' '.join(chosen)}")
        wanted = [part for name, part in chosen.items() if not options.parts or name in options.parts]
        failures = report(wanted, options.device, time.monotonic() + 60 * options.minutes, Path(folder), out)
    print(f"{out}: {failures} of its parts failed")
    return min(failures, 1)


class Part(NamedTuple):
    """A part of the report."""

    title: str
    command: list[str]
    tests: Path | None = None
    """The file that pytest writes."""
    numbers: Path | None = None
    """The file that `sagan bench` writes."""
    forms: frozenset[str] = frozenset()
    """The forms of a step that have to be in it."""


def slug(title: str) -> str:
    """Return a title as `--parts` takes it."""
    return title.lower().replace(" ", "-")


def report(wanted: list[Part], device: str, end: float, folder: Path, out: Path) -> int:
    """Run the parts and write the report. Return the number of parts that failed or were left out."""
    lines = ["# Report of `make test-gpu`", "", *machine(device)]
    failures = 0
    for part in wanted:
        left = end - time.monotonic()
        print(f"{part.title} ({left:.0f} s left)", flush=True)
        found, failed = outcome(part, left, folder)
        lines += ["", *found]
        failures += failed
        out.write_text("\n".join(lines) + "\n")
    return failures


def outcome(part: Part, left: float, folder: Path) -> tuple[list[str], bool]:
    """Run a part in the seconds that are left. Return its lines of the report, and whether it failed."""
    started = time.monotonic()
    limit = min(left, TEST_SECONDS) if part.tests else left
    code, said = run(part.command, limit) if left > 5 else (None, "no time was left")
    numbers = json.loads(part.numbers.read_text()) if part.numbers and part.numbers.is_file() else {}
    missing = part.forms - numbers.get("forms", {}).keys() if code == 0 else set()
    known = {0: "passed", None: "left out", 124: f"not finished in {limit:.0f} s"}
    words = known.get(code, f"failed with exit code {code}")
    words = f"failed without {', '.join(sorted(missing))}" if missing else words
    shown = " ".join(part.command).replace(sys.executable, "python").replace(str(folder), "OUT")
    said = said.replace(str(folder), "OUT").replace(f"{ROOT}/", "")
    lines = [f"## {part.title}: {words}", "", f"`{shown}`, {time.monotonic() - started:.0f} s", ""]
    lines += tests_table(part.tests) if part.tests else []
    lines += ["```text", *said.strip().splitlines()[-40:], "```"]
    lines += ["", "```json", json.dumps(numbers, indent=1), "```"] if numbers else []
    return lines, code != 0 or bool(missing)


def parts(device: str, folder: Path) -> list[Part]:
    """Return every part, the quick and the telling ones first."""
    sagan, run_dir, number = [sys.executable, "-m", "sagan"], str(folder / "run"), SCORED[device]
    train = [*sagan, "train", "quickstart", "--device", device, "--run_dir", run_dir, *TRAINED[device]]
    sizes = ["--num_samples", number, "--num_real", number, "--device", device]
    score = [*sagan, "evaluate", run_dir, *EXTRACTOR, *sizes]
    tests, *last = test_parts(device, folder)
    return [tests, Part("Training", train), Part("Evaluation", score), *benchmarks(device, folder), *last]


def benchmarks(device: str, folder: Path) -> Iterator[Part]:
    """Yield the parts that measure a step."""
    for name, size in SIZES[device].items():
        file, forms = folder / f"{name}.json", FORMS[name]
        options = ["--device", device, "--forms", ",".join(forms), "--json", str(file)]
        command = [sys.executable, "-m", "sagan", "bench", *size, *options]
        yield Part(f"Step of {name}", command, numbers=file, forms=frozenset({"auto", *forms} - {"mimicry"}))


def test_parts(device: str, folder: Path) -> Iterator[Part]:
    """Yield the parts that run tests."""

    def part(title: str, *chosen: str) -> Part:
        file = folder / f"{slug(title)}.xml"
        # With -v the last line names the test that hangs.
        pytest = [sys.executable, "-m", "pytest", "-v", "-rs", "-o", "junit_family=xunit1", f"--junitxml={file}"]
        return Part(title, [*pytest, *chosen], tests=file)

    if device == "cpu":
        files = [f"tests/training/test_{name}.py" for name in ("fake_gpu", "performance", "inputs", "gpu")]
        yield part("Tests", "-m", "not slow and not gpu", *files)
        return
    of_gpu = ["-m", "gpu", "--timeout=90", "--timeout-method=thread"]  # only a thread ends a test inside a driver
    yield part("Tests", *of_gpu, "-k", f"not {COMPILER}", *GPU_TESTS)
    yield part("Tests of the compiler", *of_gpu, "-k", COMPILER, *GPU_TESTS)


def tests_table(file: Path) -> list[str]:
    """Return a table of the tests that ran, with the numbers that they recorded, from pytest's XML file."""
    try:
        cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):  # pytest did not get to its end
        return []
    rows = ["| test | result | s | measured |", "|---|---|---:|---|"]
    for case in cases:
        result = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found = "; ".join(f"{p.get('name')} {p.get('value')}" for p in case.iter("property"))
        name = str(case.get("name")).replace("|", "\\|")
        if result != "skipped":
            rows.append(f"| `{name}` | {result} | {float(case.get('time') or 0):.1f} | {found} |")
    return [*rows, ""]


def run(command: list[str], seconds: float) -> tuple[int, str]:
    """Run a command for at most `seconds`. Return its exit code, 124 if it took longer, and what it said.

    Its output goes to a file, so that what it said before it hung is known, and its own processes end with it.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        end, started = time.monotonic() + seconds, set()
        try:
            while (code := process.poll()) is None and time.monotonic() < end:
                started |= set(children_of(process.pid))  # while their parent lives
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
        finally:
            for child in {*started, *children_of(process.pid)}:  # torchrun's workers are in sessions of their own
                with suppress(psutil.NoSuchProcess):  # psutil knows a process by its start, too
                    child.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return 124 if code is None else code, output.read().decode(errors="replace")


def children_of(pid: int) -> list[psutil.Process]:
    """Return the processes that a process and its children have started; none if it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def machine(device: str) -> list[str]:
    """Return lines about the device and the versions."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "device": f"{torch.cuda.device_count()} x {properties.name}",
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "driver": driver(),
        }
    return [f"- {name}: {value}" for name, value in facts.items()]


def driver() -> str:
    """Return the version of the GPU's driver, if its own tool says so."""
    tool = shutil.which("nvidia-smi")
    said = run([tool, "--query-gpu=driver_version", "--format=csv,noheader"], 20)[1].split() if tool else []
    return said[0] if said else "unknown"


if __name__ == "__main__":
    sys.exit(main())
