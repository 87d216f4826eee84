"""The execution of jobs: one that fails harms no other, and two calls at once do nothing twice."""

import io
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from sagan.ablation import executors, jobs, running
from sagan.ablation.executors import run_local, slot_environment
from sagan.ablation.jobs import run_job
from sagan.ablation.outcomes import status
from sagan.ablation.running import require_inputs
from sagan.ablation.variants import Job
from sagan.config import UserError, to_yaml
from sagan.runtime.distributed import process_group, world_size


def never():
    return False


@pytest.fixture
def make_jobs(make_config, tmp_path, monkeypatch):
    """Return a function: make_jobs(3) are jobs that have not started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "build_extractor", lambda extractor: None)

    def make(count, *overrides):
        configs = [make_config(f"run_dir=runs/{i}", *overrides) for i in range(count)]
        return [Job(f"variant-{i}", 0, config, ("train",)) for i, config in enumerate(configs)]

    return make


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("embedded null byte")])
def test_a_job_that_cannot_even_note_its_failure_harms_no_other(make_jobs, monkeypatch, capsys, error):
    def fails(job, *others):
        if job.variant == "variant-1":
            raise error

    def full(*arguments):
        raise UserError("failure.json: cannot be written")

    monkeypatch.setattr(executors, "run_job", fails)
    monkeypatch.setattr(executors, "note_failure", full)
    ended = [job.variant for job in run_local(make_jobs(4), 2, never) if job is not None]
    assert sorted(ended) == [f"variant-{i}" for i in range(4)]
    assert f"variant-1, seed 0: failed ({error})" in capsys.readouterr().err


def test_jobs_in_the_queue_are_dropped_if_the_caller_fails(make_jobs, monkeypatch):
    started = []
    monkeypatch.setattr(executors, "run_job", lambda job, *others: started.append(job) or time.sleep(0.2))
    running = run_local(make_jobs(20), 1, never)
    next(running)
    running.close()  # as when the display raises an error
    time.sleep(0.5)
    assert len(started) < 5


def test_a_place_that_is_no_folder_is_named_before_the_first_run(make_jobs, tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="run_dir runs/0: cannot be written: .*runs is not a folder"):
        require_inputs(make_jobs(2))


def test_a_run_of_another_configuration_is_not_started_and_a_damaged_one_is(make_jobs, monkeypatch, capsys):
    given, started = make_jobs(3), []
    for job in given[1:]:
        job.run_dir.mkdir(parents=True)
    other = replace(given[1].config, training=replace(given[1].config.training, batch_size=2))
    (given[1].run_dir / "config.yaml").write_text(to_yaml(other))
    (given[2].run_dir / "config.yaml").write_text("[")
    monkeypatch.setattr(executors, "run_job", lambda job, *others: started.append(job.variant))
    running.run(given, set(), "local", 1)
    assert started == ["variant-0", "variant-2"]
    assert "variant-1, seed 0: not started: runs/1 has a run with another configuration" in capsys.readouterr().err


def test_a_terminal_that_is_gone_does_not_end_the_runs(make_jobs, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    started = []
    monkeypatch.setattr(executors, "run_job", lambda job, *others: started.append(job.variant))
    monkeypatch.setattr(running, "status", lambda job: ("finished", ""))
    monkeypatch.setattr(running, "is_done", lambda job: False)
    monkeypatch.setattr(sys, "stderr", Gone())
    running.run(make_jobs(4), set(), "local", 1)
    assert started == [f"variant-{i}" for i in range(4)]


def test_two_calls_at_once_train_a_run_that_diverges_once(make_jobs, monkeypatch):
    (job,), trained = make_jobs(1), []

    def diverges(commands, run_dir, *others):
        trained.append(run_dir)
        time.sleep(1)
        return "diverged", "step 3: not finite"

    monkeypatch.setattr(jobs, "run_commands", diverges)
    calls = [threading.Thread(target=run_job, args=(job, ".", {}, never)) for _ in range(3)]
    for call in calls:
        call.start()
        time.sleep(0.2)
    for call in calls:
        call.join(30)
    assert len(trained) == 1 and status(job) == ("diverged", "step 3: not finite")


def test_a_numbered_gpu_is_that_of_this_process(make_jobs, monkeypatch):
    seen = []
    monkeypatch.setattr(executors, "gpus", lambda: ["0", "1"])
    monkeypatch.setattr(executors, "run_job", lambda job, folder, environment, stopped: seen.append(environment))
    assert slot_environment(1, 2, 1)["CUDA_VISIBLE_DEVICES"] == "1"
    (job,) = make_jobs(1)
    for device in ("cuda", "cuda:1"):
        list(run_local([replace(job, config=replace(job.config, device=device))], 1, never))
    assert ["CUDA_VISIBLE_DEVICES" in environment for environment in seen] == [True, False]


def test_a_number_of_processes_that_another_program_has_set_is_not_a_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with process_group(torch.device("cpu")):
        assert world_size() == 1
