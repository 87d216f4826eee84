"""Runs that are killed, or find the disk full: once resumed, they end as undisturbed ones do, bit for bit."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.operations import KINDS
from tests.helpers.pages import ROOT


def disturb(tmp_path, images, *arguments):
    """Return what `tests.helpers.kills` found."""
    command = [sys.executable, "-m", "tests.helpers.kills", tmp_path, images, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(1200)
def test_a_run_killed_inside_a_write_of_each_kind_of_file_ends_as_if_undisturbed(tmp_path, image_folder):
    found = disturb(tmp_path, image_folder, "few", "1", "1")
    assert [each for each in found if each["differences"]] == []
    assert {each["where"].split()[0] for each in found} >= {*KINDS.values(), "random"} and found[-1]["kills"] == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_run_killed_at_every_write_and_at_random_ends_as_if_undisturbed(tmp_path, image_folder):
    found = disturb(tmp_path, image_folder, "all", "60", "20")
    assert [each for each in found if each["differences"]] == []
    assert sum(each["kills"] for each in found) >= 200
