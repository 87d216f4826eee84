"""`sagan ablate` as a person has it: processes of its own, failures, stops, a second call, a cluster."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sagan.ablation import running
from sagan.ablation.csv_files import read_table, write_table
from sagan.ablation.executors import EXECUTORS, slot_environment
from sagan.ablation.plan import load_plan
from sagan.ablation.variants import plan_jobs
from sagan.commands.app import main
from sagan.runs.directory import checkpoints, newest_step
from sagan.runs.records import last_recorded_step, read_records

METRIC = "fid_efficientnet_lite0"
PLAN = {
    "question": "Does it run?",
    "preset": "quickstart",
    "baseline": "none",
    "metric": METRIC,
    "seeds": [0],
    "settings": {
        "device": "cpu",
        "model.*.channels": 8,
        "model.generator.z_dim": 8,
        "data.memory_gb": 0,
        "data.workers": 0,
        "training.steps": 4,
        "training.batch_size": 4,
        "training.precision": "float32",
        "logging.every": 1,
        "logging.images_every": 0,
        "logging.attention_every": 0,
        "checkpoint.every": 1,
    },
    "evaluation": {"every": 2, "num_samples": 4, "num_real": 4, "extractor.name": "efficientnet-lite0"},
    "variants": {"none": {"model.*.attention.kind": "none"}, "wild": {"optimizer.generator_lr": 1.0e20}},
}

pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `offline` is not installed")


@pytest.fixture
def question(tmp_path, monkeypatch):
    """question(**changes): writes q/plan.yaml into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))

    def write(**changes):
        folder = tmp_path / "q"
        folder.mkdir(exist_ok=True)
        (folder / "plan.yaml").write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
        return folder

    return write


def what_would_run(capsys):
    """Return the lines of a dry run."""
    capsys.readouterr()
    assert main(["ablate", "q/plan.yaml", "--dry_run"]) == 0
    return capsys.readouterr().out.splitlines()


def table(folder):
    return {row["variant"]: row for row in read_table(folder / "results.csv")}


def test_runs_failures_and_a_second_call(question, tmp_path, capsys):
    folder = question(noise_draws=2)
    assert what_would_run(capsys) == ["none, seed 0: waiting", "wild, seed 0: waiting", "to run: 2 of 2 runs, 8 steps"]
    assert [file.name for file in folder.iterdir()] == ["plan.yaml"] and not (tmp_path / "runs").exists()
    assert main(["ablate", "q/plan.yaml", "--jobs", "2"]) == 0
    assert capsys.readouterr().out.strip() == "q/report.md"
    first = table(folder)
    assert first["none"]["status"] == "finished" and first["none"]["steps"] == 4 and first["none"][METRIC] > 0
    assert first["none"]["noise_draws"] == 2 and first["none"][f"{METRIC}_noise"] > 0
    assert first["wild"]["status"] == "diverged" and "not finite" in first["wild"]["reason"]
    assert [row["step"] for row in read_table(folder / "curves.csv") if row["variant"] == "none"] == [2, 4]
    assert (folder / "samples.png").is_file() and "1 finished, 1 diverged" in (folder / "report.md").read_text()

    records = tmp_path / "runs/q/none/seed-0/metrics.jsonl"
    before = records.stat().st_mtime_ns
    finished, diverged, left = what_would_run(capsys)
    assert (finished, left) == ("none, seed 0: finished", "to run: 0 of 2 runs, 0 steps")
    assert re.fullmatch(r"wild, seed 0: diverged \(.*not finite.*\)", diverged)
    assert main(["ablate", "q/plan.yaml"]) == 0  # nothing is left to do
    assert records.stat().st_mtime_ns == before and table(folder) == first
    made = {file.name: file.read_bytes() for file in folder.iterdir()}
    moved = (tmp_path / "runs").rename(tmp_path / "moved")
    assert main(["ablate", "q/plan.yaml", "--report-only"]) == 0  # from what was recorded
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == made
    assert not (tmp_path / "runs").exists()
    gone = "done (its directory is gone; its row in results.csv is kept)"
    assert what_would_run(capsys)[0] == f"none, seed 0: {gone}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "require_inputs", None)  # what is recorded needs neither data nor weights
        assert main(["ablate", "q/plan.yaml"]) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == made
    moved.rename(tmp_path / "runs")

    other = ["ablate", "q/plan.yaml", "--optimizer.beta2", "0.5"]  # is neither in the table nor in the run's directory
    capsys.readouterr()
    assert main(other) == 1 and table(folder) == first
    assert "q/results.csv: holds 2 runs that this plan does not contain, such as none" in capsys.readouterr().err
    (folder / "results.csv").unlink()
    assert main([*other, "--variants", "none"]) == 0 and table(folder) == {}
    assert "`none`, seed 0: failed: runs/q/none/seed-0 has a run with another" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_stopped_and_started_at_will(question, tmp_path):
    folder = question(variants={"none": PLAN["variants"]["none"]})
    run_dir = tmp_path / "runs/q/none/seed-0"
    endless = ["--training.steps", "1000000", "--evaluation.every", "1000000"]
    command = [sys.executable, "-m", "sagan", "ablate", "q/plan.yaml", *endless]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while last_recorded_step(run_dir) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "the same command resumes them" in output
    step = last_recorded_step(run_dir)
    assert [p.name for p in checkpoints(run_dir)][-1] == f"step-{step:08d}.pt"
    assert table(folder) == {} and "seed 0: interrupted: at step" in (folder / "report.md").read_text()
    assert main(["ablate", "q/plan.yaml", "--training.steps", str(step + 1), *endless[2:]]) == 0
    assert table(folder)["none"]["status"] == "finished"
    assert [r["step"] for r in read_records(run_dir / "metrics.jsonl") if "loss/generator" in r] == [
        *range(1, step + 2)
    ]


@pytest.mark.slow
def test_a_run_that_is_killed_is_a_failure_with_a_reason_and_is_tried_again(question, monkeypatch, tmp_path):
    folder = question(variants={"none": PLAN["variants"]["none"]})
    killed = tmp_path / "sagan.py"  # in the place of the program, in the folder that the process runs in
    killed.write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert main(["ablate", "q/plan.yaml"]) == 0
    assert table(folder) == {} and "seed 0: failed: killed by SIGKILL" in (folder / "report.md").read_text()
    killed.unlink()
    assert main(["ablate", "q/plan.yaml"]) == 0
    assert table(folder)["none"]["status"] == "finished"


def wait_for(condition, *processes):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
        time.sleep(0.05)


def children_of(pid):
    """Return the child processes of all threads of a process."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


@pytest.mark.slow
def test_a_run_whose_ablate_was_killed_is_waited_for_and_taken_over(question, tmp_path, request):
    folder = question(variants={"none": PLAN["variants"]["none"]})
    run_dir, said = tmp_path / "runs/q/none/seed-0", tmp_path / "said.txt"
    endless = ["--training.steps", "1000000", "--evaluation.every", "1000000"]
    command = [sys.executable, "-m", "sagan", "ablate", "q/plan.yaml", *endless]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: last_recorded_step(run_dir) >= 2, first)
    (orphan,) = children_of(first.pid)
    request.addfinalizer(lambda: orphan in children_of(1) and os.kill(orphan, signal.SIGKILL))
    first.kill()
    first.wait()
    with open(said, "w") as output:
        second = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    request.addfinalizer(second.terminate)
    wait_for(lambda: "none, seed 0: another process is training there already" in said.read_text(), second)
    assert main(["ablate", "q/plan.yaml", *endless, "--report-only"]) == 0
    assert "seed 0: in progress: at step " in (folder / "report.md").read_text()
    os.kill(orphan, signal.SIGTERM)  # which saves itself
    wait_for(lambda: "none, seed 0: the other process has ended; taking the run over" in said.read_text(), second)
    saved = newest_step(run_dir)
    wait_for(lambda: last_recorded_step(run_dir) > saved + 1, second)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    steps = [r["step"] for r in read_records(run_dir / "metrics.jsonl") if "loss/generator" in r]
    assert steps == [*range(1, steps[-1] + 1)] and "interrupted" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_two_calls_at_once_train_each_run_once(question, tmp_path):
    folder = question(variants={"none": PLAN["variants"]["none"]})
    command = [sys.executable, "-m", "sagan", "ablate", "q/plan.yaml"]
    calls = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [call.communicate(timeout=200)[1] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], errors
    assert not any("failed" in error for error in errors) and table(folder)["none"]["status"] == "finished"
    records = read_records(tmp_path / "runs/q/none/seed-0/metrics.jsonl")
    assert [r["step"] for r in records if "loss/generator" in r] == [1, 2, 3, 4]
    assert "## Runs without a final score" not in (folder / "report.md").read_text()


@pytest.mark.slow
def test_on_a_ray_cluster(question):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    folder = question()
    assert main(["ablate", "q/plan.yaml", "--executor", "ray"]) == 0
    assert {v: r["status"] for v, r in table(folder).items()} == {"none": "finished", "wild": "diverged"}


WRONG = {
    "": "PLAN is missing",
    "nowhere.yaml": "nowhere.yaml: cannot be read as a plan",
    "q/plan.yaml --size gpu": "--size gpu: q/plan.yaml has no sizes",
    "q/plan.yaml --jobs 0": "--jobs 0: expected 0 < value <= 512",
    "q/plan.yaml --executor slurm": "--executor slurm: expected one of local, ray",
    "q/plan.yaml --variants none,se": "--variants se: q/plan.yaml has none, wild",
    "q/plan.yaml --run_dir x": "--run_dir x: a plan gives each run a directory of its own",
    "q/plan.yaml --training.seed 1": "--training.seed 1: the plan's seeds set it",
    "q/plan.yaml --seeds [0,1]": "--seeds 1: q/plan.yaml has 0",
    "q/plan.yaml --training.stps 1": "--training.stps: there is no such option",
    "--power": "PLAN is missing",
    "q/plan.yaml --power": "q/results.csv: no primary variant has two seeds in common with none yet",
    "q/plan.yaml --power --power_sd 0": "--power_sd 0.0: expected a number above 0, together with --power",
    "q/plan.yaml --power_difference 0.1": "--power_difference 0.1: expected a number above 0, together with --power",
    "recipes": "recipes: neither a YAML file nor a plan",
    "q/plan.yaml --data.source folder --data.path nowhere": "data.path nowhere: no such folder",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_mistakes_are_refused_before_anything_runs(question, arguments, capsys, tmp_path):
    question()
    assert main(["ablate", *arguments.split()]) in (1, 2)
    assert WRONG[arguments] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() and not (tmp_path / "q" / "report.md").exists()


def test_power_of_a_plan(question, capsys, tmp_path):
    """A given standard deviation is enough; else that of the results is taken. For 0.5 SD, G*Power has 34 seeds."""
    folder = question(seeds=[0, 1, 2])
    power = ["ablate", "q/plan.yaml", "--power", "--power_difference", "0.5"]
    assert main([*power, "--power_sd", "1"]) == 0
    output = capsys.readouterr().out
    assert "1 primary comparison with none. The plan has 3 seeds; a verdict needs at least 5." in output
    header, row = (re.split(" {3,}", line.strip()) for line in output.splitlines()[4:6])
    assert header == ["comparison", "standard deviation", "5 seeds can show", "seeds for 0.5"]
    assert row == ["as given", "1", "1.68", "34"]

    jobs = plan_jobs(load_plan(folder / "plan.yaml"), [])
    values = {"none": [10.0, 20.0, 30.0], "wild": [11.0, 20.0, 32.0]}  # differences of 1, 0 and 2
    rows = [
        {"variant": j.variant, "seed": j.seed, METRIC: values[j.variant][j.seed], "status": "finished"}
        | {"config": j.digest}
        for j in jobs
    ]
    write_table(rows, folder / "results.csv", ("variant", "seed"))
    assert main(power) == 0
    line = next(li for li in capsys.readouterr().out.splitlines() if li.startswith("wild - none (3 seeds)"))
    assert re.split(" {3,}", line)[1:] == ["1 [0.521, 6.28]", "1.68", "34"]
    assert not (folder / "report.md").exists() and not (tmp_path / "runs").exists()


def test_further_seeds_are_run_beside_the_results_of_earlier_ones(question, monkeypatch):
    folder, asked = question(seeds=[0, 1, 2]), []
    monkeypatch.setitem(EXECUTORS, "local", lambda jobs, *rest: asked.extend(jobs) or iter(()))
    jobs = plan_jobs(load_plan(folder / "plan.yaml"), [])
    done = [job for job in jobs if job.seed < 2]
    rows = [
        {"variant": j.variant, "seed": j.seed, METRIC: 1.0 + j.seed, "status": "finished", "config": j.digest}
        for j in done
    ]
    write_table(rows, folder / "results.csv", ("variant", "seed"))
    assert main(["ablate", "q/plan.yaml", "--variants", "none", "--seeds", "[1,2]"]) == 0
    assert [(job.variant, job.seed) for job in asked] == [("none", 2)]
    kept = read_table(folder / "results.csv")
    assert {(row["variant"], row["seed"]) for row in kept} == {(job.variant, job.seed) for job in done}
    assert "\nsagan ablate q/plan.yaml\n" in (folder / "report.md").read_text()  # all of it, not the part asked for


def test_each_run_has_its_own_gpus_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sagan.ablation.executors.cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [slot_environment(i, 3, 1)["CUDA_VISIBLE_DEVICES"] for i in range(5)] == ["4", "5", "6", "7", "4"]
    assert [slot_environment(i, 2, 2)["CUDA_VISIBLE_DEVICES"] for i in range(2)] == ["4,5", "6,7"]
    assert slot_environment(0, 2, 2)["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in slot_environment(0, 1, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slot_environment(0, 2, 1) == {}
