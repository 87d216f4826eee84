"""The pages of experiments say what the records beside them say.

A number that stands in a sentence of experiments/*/README.md carries a comment that readers do not see:

    0.115<!-- sagan mean -->                     a cell of summary.csv: variant, column; of the plan's metric
    124<!-- sagan mean fid_efficientnet_lite0 --> ... of another metric
    0.140<!-- sagan seed 1 -->                   a cell of results.csv: variant, seed; of the plan's metric
    0.08<!-- sagan median gamma_generator -->    the median of a column of results.csv over a variant's runs
    0.36<!-- from cifar10-cpu -->                not from these records

Tables between the markers `results: begin` and `results: end` are written by `sagan ablate PLAN --report-only`.
"""

import re
import shlex
import shutil
from pathlib import Path
from statistics import median

import pytest

from sagan.ablation import report
from sagan.ablation.csv_files import read_table
from sagan.ablation.plan import load_plan
from sagan.ablation.variants import plan_jobs

FOLDER = Path(__file__).parent.parent / "experiments"
REPORTED = sorted(file.parent for glob in ("*/results.csv", "*/*/results.csv") for file in FOLDER.glob(glob))
WITH_PAGE = [folder for folder in REPORTED if (folder / "README.md").is_file()]
NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)(?: ?%)?<!--(.*?)-->")


def sentences(page):
    """Return a page without what is no sentence: code, tables, and what is generated."""
    page = re.sub(r"<!-- results: begin -->.*?<!-- results: end -->", "", page, flags=re.DOTALL)
    page = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"^\|.*$", "", page, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", page)


def value_of(reference, folder, metric):
    """Return the value in the records that a reference means."""
    variant, column, *rest = reference.split()
    if column in ("seed", "median"):
        rows = [row for row in read_table(folder / "results.csv") if row["variant"] == variant]
        if column == "seed":
            return next(row[metric] for row in rows if row["seed"] == int(rest[0]))
        return median(row[rest[0]] for row in rows if rest[0] in row)
    rows = read_table(folder / "summary.csv")
    (row,) = (row for row in rows if (row["variant"], row["metric"]) == (variant, rest[0] if rest else metric))
    return row[column]


def agrees(shown, value):
    """Whether a number is a value rounded to as many decimals as are shown."""
    return f"{value:.{len(shown.partition('.')[2])}f}" == shown


def plan_of(folder):
    """Return the plan whose tables lie in a folder: that of the folder, or a size of the one above."""
    beside = folder / "plan.yaml"
    return load_plan(beside) if beside.is_file() else load_plan(folder.parent / "plan.yaml", folder.name)


@pytest.mark.parametrize("folder", WITH_PAGE, ids=lambda folder: folder.name)
def test_every_number_of_a_page_is_that_of_the_records(folder):
    text = sentences((folder / "README.md").read_text())
    metric = load_plan(folder / "plan.yaml").metric
    found = [(shown, about.strip()) for shown, about in NUMBER.findall(text)]
    wrong = [
        f"{shown} <!-- {about} -->: {value_of(about, folder, metric)}"
        for shown, about in found
        if not about.startswith("from ") and not agrees(shown, value_of(about, folder, metric))
    ]
    assert wrong == []
    bare = re.findall(r"(?<![\w.])-?\d+\.\d+(?![\w.])", NUMBER.sub("", text))
    assert bare == [], "numbers without a comment that says which record they are"


@pytest.mark.parametrize("folder", REPORTED, ids=lambda folder: folder.name)
def test_committed_reports_are_those_of_the_committed_tables(folder, tmp_path, monkeypatch):
    """All text that `sagan ablate PLAN --report-only` writes; pictures depend on the version of matplotlib."""
    copy = tmp_path / folder.relative_to(FOLDER.parent)
    home = FOLDER / copy.relative_to(tmp_path / "experiments").parts[0]  # with the plan
    shutil.copytree(home, tmp_path / "experiments" / home.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw", lambda *arguments: None)
    plan = plan_of(copy.relative_to(tmp_path))
    command = re.search(r"^sagan ablate (.*)$", (folder / "report.md").read_text(), flags=re.MULTILINE)[1]
    report.write_report(plan, plan_jobs(plan, []), shlex.split(command))
    written = ("results.csv", "curves.csv", "summary.csv", "report.md", "comparison.tex", "scores.tex", "README.md")
    there = [name for name in written if name != "README.md" or (folder / name).is_file()]
    changed = [name for name in there if (copy / name).read_bytes() != (folder / name).read_bytes()]
    assert changed == [], f"run `sagan ablate {command} --report-only`"


def test_the_check_finds_wrong_numbers(tmp_path):
    (tmp_path / "results.csv").write_text("variant,seed,kid,gamma\na,0,0.125,1\na,1,0.25,2\na,2,0.3,9\n")
    (tmp_path / "summary.csv").write_text("variant,metric,mean,low\na,kid,0.225,0.1\na,fid,12.5,9\n")
    values = {"a mean": 0.225, "a low fid": 9, "a seed 1": 0.25, "a median gamma": 2}
    assert {reference: value_of(reference, tmp_path, "kid") for reference in values} == values
    assert agrees("0.22", 0.2249) and not agrees("0.23", 0.2249) and agrees("-1.0", -0.96) and agrees("3", 2.6)
    block = "<!-- results: begin -->0.6<!-- results: end -->"
    page = f"KID 0.2<!-- a mean --> `0.3`\n| 0.4 |\n```\n0.5\n```\n{block}[x](0.7.md)"
    assert NUMBER.findall(sentences(page)) == [("0.2", " a mean ")] and "0." not in NUMBER.sub("", sentences(page))
