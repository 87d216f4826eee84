"""report.md says what the tables hold, and no more."""

import re

import pytest
import yaml

from sagan.ablation.plan import load_plan, plan_jobs
from sagan.ablation.report import write_report
from sagan.ablation.results import read_table, write_table

METRIC = "kid_mean_efficientnet_lite0"
FINISHED = {
    "none": [0.50, 0.52, 0.51],
    "good": [0.301, 0.320, 0.311],
    "same": [0.52, 0.50, 0.505],
    "odd": [0.5, None, 0.4],
}


@pytest.fixture
def plan(tmp_path):
    folder = tmp_path / "question"
    folder.mkdir()
    content = {
        "question": "Which?",
        "preset": "quickstart",
        "baseline": "none",
        "metric": METRIC,
        "seeds": [0, 1, 2],
        "evaluation": {"every": 5, "extractor.name": "efficientnet-lite0"},
        "variants": {name: {"training.batch_size": 2 + i} for i, name in enumerate(FINISHED)},
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_plan(folder / "plan.yaml")


@pytest.fixture
def report(plan, tmp_path, monkeypatch):
    """The report of runs whose directories are gone, and whose rows are there."""
    monkeypatch.chdir(tmp_path)
    jobs = plan_jobs(plan, [])
    results, curves = [], []
    for job in jobs:
        score = FINISHED[job.variant][job.seed]
        row = {"variant": job.variant, "seed": job.seed, "steps": 1500, "config": job.digest}
        row |= {"parameters": 1000, "flops": 2_000_000, "images_per_second": 50.0}
        if score is None:
            results.append({**row, "status": "diverged", "reason": "step 9: not finite: x", "warnings": "vanished"})
        else:
            results.append({**row, METRIC: score, "precision_efficientnet_lite0": 0.25, "status": "finished"})
            curves += [
                {"variant": job.variant, "seed": job.seed, "step": s, METRIC: score * 900 / s} for s in (500, 900)
            ]
    write_table(results, plan.folder / "results.csv", ("variant", "seed"))
    write_table(curves, plan.folder / "curves.csv", ("variant", "seed", "step"))
    return write_report(plan, jobs, ["question/plan.yaml", "--jobs", "2"]).read_text()


def test_it_names_a_winner_only_where_the_intervals_do(report):
    section = report.partition("\n## ")[2].partition("\n## ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| \d \|.*\| ([^|]+) \|$", section, flags=re.M))
    assert table == {"good": "better", "odd": "no difference shown", "none": "baseline", "same": "no difference shown"}
    assert "`good`: better than `none`." in report and "worse than" not in report
    assert "For 2 of 3 variants these seeds show no difference" in report
    assert "scipy.stats.t" in report and "all 3 comparisons of this metric" in report


def test_it_counts_what_went_wrong(report):
    assert "12 runs, of which 11 finished, 1 diverged" in report
    assert "| `odd` | 1 | 0 | 1 | 0 |" in report
    assert "- `odd`, seed 1: diverged: step 9: not finite: x" in report


def test_it_has_pictures_and_commands(report, plan):
    for name in ("curves.png", "cost.png"):
        assert f"]({name})" in report and (plan.folder / name).read_bytes().startswith(b"\x89PNG")
    assert "samples.png" not in report  # there is no checkpoint to draw from
    assert "sagan ablate question/plan.yaml --jobs 2" in report
    assert report.count("sagan train quickstart --evaluation.every 5") == 12


def test_the_tables_beside_it(report, plan):
    summary = {(r["variant"], r["metric"]): r for r in read_table(plan.folder / "summary.csv")}
    good = summary["good", METRIC]
    assert good["difference"] == pytest.approx((0.301 + 0.320 + 0.311 - 0.50 - 0.52 - 0.51) / 3)
    assert good["verdict"] == "better" and summary["odd", METRIC]["seeds"] == 2
    rows = read_table(plan.folder / "results.csv")
    assert len(rows) == 12 and [*rows[0]][:4] == ["variant", "seed", "steps", METRIC]
