"""A run on two machines, which are namespaces of this one, started by experiments/launch/several-nodes.sh."""

import re
import shutil
import time

import pytest

from sagan.commands.app import main
from sagan.runs.directory import checkpoint_path
from tests.helpers.launching import start_script
from tests.helpers.machines import inside, lose, two_machines, why_not
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import tokens
from tests.test_torchrun import OPTIONS, assert_same_end, steps_recorded, torchrun


@pytest.fixture
def machines(tmp_path):
    """start(node, host, nodes, *options): several-nodes.sh on a machine, with torchrun's store on `host`."""
    if reason := why_not(tmp_path):
        pytest.skip(reason)

    def start(node, host, nodes, *options):
        settings = {
            "PRESET": "quickstart",
            "PROCESSES": "1",
            "NODES": nodes,
            "MASTER": f"{host}:29500",
            "SLOWLY": "0.1",
        }
        return start_script("several-nodes.sh", options, tmp_path, within=inside(node, tmp_path), **settings)

    with two_machines(tmp_path):
        yield start


def options_of(run_dir, steps):
    """Return the options of a run of so many steps."""
    changes = {
        "data.source": "tests.helpers.slow_images.Slow",
        "data.memory_gb": 0,
        "run_dir": run_dir,
        "training.steps": steps,
    }
    changes |= {"model.generator.norm_sync": "true", "optimizer.eps": 1e-3}  # so that rounding errors stay small
    changes |= {"checkpoint.keep": 100}
    return tokens({**OPTIONS, **changes})


def wait_for(path, *processes):
    """Wait for a file, while processes live."""
    deadline = time.monotonic() + 400
    while not path.exists():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def ended_well(process):
    """Return what a machine has said, once it has ended without an error."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lost", ["node-2", "node-1"])
def test_the_other_machine_continues_alone_and_a_lost_one_rejoins(lost, machines, tmp_path):
    """The first machine by name is rank 0, so rank 0 moves to the other one and back if that is the one lost."""
    kept = {"node-1": "node-2", "node-2": "node-1"}[lost]
    run, steps = tmp_path / "run", 100
    first = {node: machines(node, kept, "1:2", *options_of(run, steps)) for node in (kept, lost)}
    wait_for(checkpoint_path(run, 6), *first.values())
    lose(lost)
    before = max(steps_recorded(run))
    wait_for(checkpoint_path(run, before + 4 - before % 2), first[kept])
    again = machines(lost, kept, "1:2", *options_of(run, steps))
    said = ended_well(first[kept]) + ended_well(again)
    assert said.count("resuming from step") == 2 and "1 process on cpu" in said, said
    found = steps_recorded(run)
    assert [*found] == [*range(1, steps + 1)] and found[steps]["images_seen"] == 8 * steps
    for start in (0, *map(int, re.findall("resuming from step ([0-9]+) of", said))):
        expected = one_process_continues(run, start, start + 3, tmp_path / f"from-{start}")
        for step in range(start + 1, start + 4):
            record = {name: value for name, value in expected[step].items() if name.startswith(("loss/", "logits/"))}
            assert {name: found[step][name] for name in record} == pytest.approx(record, rel=1e-4, abs=1e-6)


def one_process_continues(run, start, last, folder):
    """Return the records of the steps of one process alone, from a checkpoint of a run. Rounding errors grow later."""
    if start:
        checkpoint_path(folder, start).parent.mkdir(parents=True)
        shutil.copy(checkpoint_path(run, start), checkpoint_path(folder, start))
    assert main(["train", "quickstart", *options_of(folder, last)]) == 0
    return steps_recorded(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_needs_both_machines_waits_for_a_lost_one_and_ends_bit_for_bit(machines, tmp_path, monkeypatch):
    run, calm, steps = tmp_path / "run", tmp_path / "calm", 20
    first = {node: machines(node, "node-1", "2", *options_of(run, steps)) for node in ("node-1", "node-2")}
    wait_for(checkpoint_path(run, 6), *first.values())
    lose("node-2")
    again = machines("node-2", "node-1", "2", *options_of(run, steps))
    said = ended_well(first["node-1"]) + ended_well(again)
    assert said.count("resuming from step") == 1, said
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    undisturbed = torchrun(calm, 2, *options_of(calm, steps))
    assert undisturbed.wait(600) == 0, undisturbed.stdout.read()
    assert_same_end(calm, run, steps)
