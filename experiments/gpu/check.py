"""`make test-gpu`: tests, benchmark and a short training on a GPU, and one report of it all in Markdown.

    python experiments/gpu/check.py [--device cuda|cpu] [--minutes 9] [--out report.md]

On a CPU it does what needs no GPU, at small sizes, so that the script itself is known to work.
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
from contextlib import suppress
from pathlib import Path
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
FORMS = {"cuda": {"auto", "eager", "compiled", "graphs", "plain"}, "cpu": {"auto", "plain"}}
"""What `sagan bench` has to measure."""
TRAINED = {"cuda": ["--training.steps", "1500"], "cpu": ["--training.steps", "4", "--training.batch_size", "4"]}
SCORED = {"cuda": "2000", "cpu": "20"}
EXTRACTOR = ["--extractor.name", "efficientnet-lite0"]
TEST_SECONDS = 270  # at most, so that a test that hangs leaves time for the numbers


def main() -> int:
    """Run every part within the time, write the report, and return how many parts failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="in all; what would begin later is left out")
    parser.add_argument("--out", type=Path, default=None, help="default: report-DEVICE.md beside this file")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("make test-gpu: no CUDA device here; DEVICE=cpu runs the half that needs none", file=sys.stderr)
        return 2
    out = options.out or Path(__file__).with_name(f"report-{options.device}.md")
    with tempfile.TemporaryDirectory() as folder:
        lines, failures = report(options.device, time.monotonic() + 60 * options.minutes, Path(folder))
    out.write_text("\n".join(lines) + "\n")
    print(f"{out}: {failures} of its parts failed")
    return min(failures, 1)


def report(device: str, end: float, folder: Path) -> tuple[list[str], int]:
    """Return the lines of the report and the number of parts that failed or were left out."""
    lines = ["# Report of `make test-gpu`", "", *machine(device)]
    failures = 0
    for title, command, result in parts(device, folder):
        left = end - time.monotonic()
        started = time.monotonic()
        print(f"{title} ({left:.0f} s left)", flush=True)
        limit = min(left, TEST_SECONDS) if title == "Tests" else left
        code, said = run(command, limit) if left > 5 else (None, "no time was left")
        numbers = json.loads(result.read_text()) if result is not None and result.is_file() else {}
        missing = FORMS[device] - numbers.get("forms", {}).keys() if code == 0 and result is not None else set()
        words = {0: "passed", None: "left out"}.get(code, f"failed with exit code {code}")
        words = f"failed without {', '.join(sorted(missing))}" if missing else words
        failures += code != 0 or bool(missing)
        shown = " ".join(command).replace(sys.executable, "python").replace(str(folder), "OUT")
        said = said.replace(str(folder), "OUT").replace(f"{ROOT}/", "")
        lines += ["", f"## {title}: {words}", "", f"`{shown}`, {time.monotonic() - started:.0f} s", ""]
        lines += tests_table(folder / "tests.xml") if title == "Tests" else []
        lines += ["```text", *said.strip().splitlines()[-40:], "```"]
        if numbers:
            lines += ["", "```json", json.dumps(numbers, indent=1), "```"]
    return lines, failures


def parts(device: str, folder: Path) -> list[tuple[str, list[str], Path | None]]:
    """Return title, command and file of numbers of every part, the quick and the telling ones first."""
    python, sagan = sys.executable, [sys.executable, "-m", "sagan"]
    if device == "cuda":  # only a thread can end a test that hangs in a driver
        files = ["tests/training/test_gpu.py", "tests/training/test_recording.py", "tests/data/test_batches.py"]
        chosen = ["-m", "gpu", "--timeout=90", "--timeout-method=thread", *files]
    else:
        files = [f"tests/training/test_{name}.py" for name in ("fake_gpu", "performance", "inputs", "gpu")]
        chosen = ["-m", "not slow and not gpu", *files]
    # With -v the last line names the test that hangs.
    tests = [python, "-m", "pytest", "-v", "-rs", "-o", "junit_family=xunit1", f"--junitxml={folder / 'tests.xml'}"]
    found: list[tuple[str, list[str], Path | None]] = [("Tests", [*tests, *chosen], None)]
    run_dir = str(folder / "run")
    found.append((
        "Training",
        [*sagan, "train", "quickstart", "--device", device, "--run_dir", run_dir, *TRAINED[device]],
        None,
    ))  # fmt: skip
    number = SCORED[device]
    sizes = ["--num_samples", number, "--num_real", number, "--device", device]
    found.append(("Evaluation", [*sagan, "evaluate", run_dir, *EXTRACTOR, *sizes], None))
    for name, size in SIZES[device].items():
        file = folder / f"{name}.json"
        found.append((f"Step of {name}", [*sagan, "bench", *size, "--device", device, "--json", str(file)], file))
    return found


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
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            for child in children_of(process.pid):  # torchrun's workers are in sessions of their own
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")


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
