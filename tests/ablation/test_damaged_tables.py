"""Tables of an ablation that a hand, a disk or a version control tool has damaged."""

import random

import pytest

from sagan.ablation.plan import load_plan, plan_file
from sagan.ablation.results import known_rows
from sagan.ablation.variants import plan_jobs
from sagan.config import UserError

DAMAGED = {
    "binary": (bytes(range(256)), "cannot be read as a table"),
    "no columns": (b"a,b\n1,2\n", "expected a table with the columns variant and seed"),
    "no seed": (b"variant,status\nnone,finished\n", "expected a table with the columns variant and seed"),
    "conflict": (b"<<<<<<< ours\nvariant,seed\nnone,0\n", "expected a table with the columns variant and seed"),
    "no settings": (b"variant,seed,status\nnone,0,finished\n", "not a table of sagan ablate, which has the columns"),
    "null bytes": (b"variant,seed,status,config\n\0\0,0,finished,a1\n", "holds 1 run that this plan does not contain"),
    "status": (
        b"variant,seed,status,config\nnone,0,Finished,{none-0}\n",
        "none, seed 0: status Finished: expected fini",
    ),
    "score": (
        b"variant,seed,kid,status,config\nnone,0,n/a,finished,{none-0}\n",
        "none, seed 0: kid n/a: expected a number",
    ),
    "two rows": (
        b"variant,seed,status,config\nnone,0,finished,{none-0}\nnone,0,finished,{none-0}\n",
        "none, seed 0: has two rows; keep one of them",
    ),
    "noise of unknown draws": (
        b"variant,seed,kid_noise,noise_draws,status,config\nnone,0,0.1,nan,finished,{none-0}\n",
        "none, seed 0: noise_draws nan: expected the number of draws",
    ),
    "own column": (
        b"variant,seed,notes,status,config\nnone,0,slow,finished,{none-0}\n",
        "none, seed 0: notes slow: expected a number",
    ),
    "strange seed": (
        b"variant,seed,status,config\nnone,x,finished,a1\n",
        "holds 1 run that this plan does not contain",
    ),
    "long number": (
        b"variant,seed,status,config\nnone," + b"9" * 5000 + b",finished,a1\n",
        "holds 1 run that",
    ),
}


PIECES = [b"", b"\0", b'"', b"\n", b",", b"\xff", b"nan", b"-"]


@pytest.fixture(scope="module")
def pilot():
    return load_plan(plan_file("distant-parts"), "pilot")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_named_in_one_line(name, pilot, tmp_path):
    content, words = DAMAGED[name]
    (digest,) = (job.digest for job in plan_jobs(pilot, []) if (job.variant, job.seed) == ("none", 0))
    (tmp_path / "results.csv").write_bytes(content.replace(b"{none-0}", digest.encode()))
    with pytest.raises(UserError, match=words) as error:
        known_rows(tmp_path, plan_jobs(pilot, []))
    assert "\n" not in str(error.value) and str(tmp_path / "results.csv") in str(error.value)


def test_a_table_that_a_spreadsheet_has_saved_is_read(pilot, tmp_path):
    whole = (pilot.folder / "results.csv").read_bytes()
    (tmp_path / "results.csv").write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    assert known_rows(tmp_path, plan_jobs(pilot, [])).keys() == known_rows(pilot.folder, plan_jobs(pilot, [])).keys()


def test_no_change_of_a_few_bytes_is_a_traceback(pilot, tmp_path):
    """Half of the changes hit curves.csv, whose rows are ignored if no run has them."""
    jobs, rng = plan_jobs(pilot, []), random.Random(0)
    whole = {name: (pilot.folder / name).read_bytes() for name in ("results.csv", "curves.csv")}
    refused = 0
    for i in range(300):
        damaged = dict(whole)
        name = ("results.csv", "curves.csv")[i % 2]
        data = bytearray(whole[name])
        for _ in range(rng.choice([1, 1, 3, 30])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 1, 50])] = rng.choice(PIECES)
        damaged[name] = bytes(data)
        for file, content in damaged.items():
            (tmp_path / file).write_bytes(content)
        try:
            known_rows(tmp_path, jobs)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < 300
