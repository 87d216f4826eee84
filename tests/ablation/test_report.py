"""report.md and the tables beside it say what the records hold, and no more; the same records make the same bytes."""

import json
import math
import re
import shutil
from dataclasses import replace

import pytest
import yaml

from sagan.ablation.comparison import comparison_tables, interval_text, narrow_comparison_tables, with_decimals
from sagan.ablation.csv_files import read_table, write_table
from sagan.ablation.design import changes_of_design
from sagan.ablation.metrics import name_and_network
from sagan.ablation.plan import load_plan
from sagan.ablation.report import write_report
from sagan.ablation.sections import gallery
from sagan.ablation.statistics import Interval
from sagan.ablation.tables import Table, latex, latex_cell, markdown
from sagan.ablation.variants import plan_jobs
from sagan.ablation.verdicts import summarize
from sagan.config import UserError

METRIC = "kid_mean_efficientnet_lite0"
SCORES = {
    "none": [0.50, 0.52, 0.51, 0.53, 0.49],
    "good": [0.301, 0.320, 0.311, 0.334, 0.288],
    "same": [0.52, 0.50, 0.505, 0.52, 0.495],
    "odd": [0.5, None, 0.4, None, None],
    "alone": [0.1, None, None, None, None],
}
README = "# Page\n\n<!-- results: begin -->\nold\n<!-- results: end -->\n\nText.\n"


def make_plan(root):
    folder = root / "question"
    folder.mkdir()
    content = {
        "question": "Which?",
        "preset": "quickstart",
        "baseline": "none",
        "metric": METRIC,
        "seeds": [0, 1, 2, 3, 4],
        "primary": ["good", "same"],
        "evaluation": {"every": 5, "extractor.name": "efficientnet-lite0"},
        "variants": {name: {"training.batch_size": 2 + i} for i, name in enumerate(SCORES)},
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "README.md").write_text(README)
    return load_plan(folder / "plan.yaml")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return make_plan(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def report(plan):
    """Return the report of runs whose directories are gone, and whose rows are there."""
    jobs = plan_jobs(plan, [])
    results, curves = [], []
    for job in jobs:
        score = SCORES[job.variant][job.seed]
        row = {"variant": job.variant, "seed": job.seed, "steps": 1500, "config": job.digest}
        row |= {"parameters": 1000, "flops": 2_000_000, "images_per_second": 10.0 * len(job.variant)}
        if score is None:
            results.append({**row, "status": "diverged", "reason": "step 9: not finite: x", "warnings": "vanished"})
        else:
            noise = {"noise_draws": 3, f"{METRIC}_noise": 0.003 if job.seed else 0.004}
            results.append({**row, METRIC: score, "precision_efficientnet_lite0": 0.25, "status": "finished", **noise})
            curves += [
                {"variant": job.variant, "seed": job.seed, "step": s, METRIC: score * 900 / s} for s in (500, 900)
            ]
    write_table(results, plan.folder / "results.csv", ("variant", "seed"))
    write_table(curves, plan.folder / "curves.csv", ("variant", "seed", "step"))
    return write_report(plan, jobs, ["question/plan.yaml", "--jobs", "2"]).read_text()


def section(report, title):
    """Return the text below a heading, up to the next."""
    return re.split(r"^#+ ", report.partition(title)[2], flags=re.M)[0]


def cells(text):
    """Return the rows of a table: first cell -> the others."""
    rows = [[c.strip(" `") for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {row[0]: row[1:] for row in rows}


def test_verdicts_are_for_primary_comparisons(report):
    primary = cells(section(report, "### 2 primary comparisons, fixed by the plan"))
    assert {v: row[-1] for v, row in primary.items()} == {"good": "better", "none": "baseline", "same": "undecided"}
    assert [row[3] for row in primary.values()] == ["97.5 %", "95 %", ""]  # the levels of Holm's two steps
    assert "`good` is better than `none`." in report and "worse than" not in report
    assert "Undecided: `same`. That does not prove equality." in report
    assert "Holm's correction for the plan's 2 primary comparisons" in report


def test_what_is_not_primary_is_labelled_and_what_is_alone_is_no_row(report):
    exploratory = cells(section(report, "### Exploratory comparisons"))
    assert list(exploratory) == ["odd"] and exploratory["odd"][-1] == "exploratory"
    assert exploratory["odd"][1:4] == ["0.45", "-0.055", ""]  # two seeds: no interval
    assert "fewer than two seeds in common with `none`: `alone`." in report
    assert "alone" in cells(section(report, "## All scores"))


def test_it_counts_what_went_wrong(report):
    assert "25 runs, of which 18 finished, 7 diverged" in report and "not complete" not in report
    assert cells(section(report, "## Divergence and collapse"))["odd"] == ["5", "3", "0", "3", "0"]
    assert "- `odd`, seed 1: diverged: step 9: not finite: x" in report


def test_it_tells_evaluation_noise_from_seed_noise(report):
    rows = cells(section(report, "## Seed noise and evaluation noise"))
    assert rows["none"] == ["5", "0.0158", "3", "0.00322"]  # sqrt of (0.004² + 4 · 0.003²) / 5
    assert rows["alone"] == ["1", "", "3", "0.004"]


def test_it_has_pictures_and_commands(report, plan):
    for name in ("forest", "curves", "cost"):
        assert f"]({name}.png)" in report and f"]({name}.svg)" in report and f"]({name}.pdf)" in report
        assert (plan.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (plan.folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (plan.folder / f"{name}.svg").read_text()
    assert "samples.png" not in report  # there is no checkpoint to draw from
    assert "sagan ablate question/plan.yaml --jobs 2\n" in report
    assert report.count("sagan train quickstart --evaluation.every 5") == 25


def test_it_says_which_variant_its_pictures_call_by_a_number(report, plan, tmp_path):
    (tmp_path / "forest.png").touch()
    other = replace(plan, file=tmp_path / "plan.yaml", size="", variants={"none": {}, "注意": {}})
    assert "In pictures, `注意` is called variant 2." in gallery(other) and "In pictures" not in report


def test_the_tables_beside_it(report, plan):
    summary = {(r["variant"], r["metric"]): r for r in read_table(plan.folder / "summary.csv")}
    good = summary["good", METRIC]
    assert good["difference"] == pytest.approx(sum(SCORES["good"]) / 5 - sum(SCORES["none"]) / 5)
    assert (good["role"], good["verdict"]) == ("primary", "better") and summary["odd", METRIC]["seeds"] == 2
    assert summary["good", "precision_efficientnet_lite0"]["verdict"] == "exploratory"
    rows = read_table(plan.folder / "results.csv")
    assert len(rows) == 25 and [*rows[0]][:4] == ["variant", "seed", "steps", METRIC]
    text = (plan.folder / "comparison.tex").read_text()
    assert r"\texttt{good} & 5 & 0.311 [0.289, 0.333] & $-$0.1992 [" in text and r"97.5 \%" in text


def test_printed_scores_are_narrow_and_name_their_network_once(report, plan):
    text = (plan.folder / "scores.tex").read_text()
    tables = text.split(r"\begin{tabular}")[1:]
    heads = [table.splitlines()[2] for table in tables]
    assert not any("EfficientNet" in head for head in heads)
    cells = [[line.removesuffix(r" \\").split(" & ") for line in t.splitlines() if "&" in line] for t in tables]
    widths = [sum(max(len(row[i]) for row in rows) for i in range(len(rows[0]))) for rows in cells]
    assert max(w for w, rows in zip(widths, cells, strict=True) if len(rows[0]) > 3) < 64 + len(r"\texttt{}$$$$")
    notes = [r"\multicolumn" in table for table in tables]
    assert any(notes) and all("Features of EfficientNet-lite0." in t for t, n in zip(tables, notes, strict=True) if n)
    names = [name for head in heads for name in head.removesuffix(r" \\").split(" & ")[2:]]
    assert sorted(names) == sorted(
        {name_and_network(row["metric"])[0] for row in read_table(plan.folder / "summary.csv")}
    )


def test_printed_verdicts_are_without_their_reasons(tmp_path):
    plan = make_plan(tmp_path)
    rows = [
        {"variant": v, "seed": s, "status": "finished", METRIC: 0.1 * s} for v in ("none", "good") for s in range(3)
    ]
    summaries = summarize(rows, "none", METRIC, ["good"])
    long, short = (make(plan, summaries)[0].rows for make in (comparison_tables, narrow_comparison_tables))
    assert "no verdict: 3 seeds, at least 5 needed" in [row[-1] for row in long]
    assert sorted(row[-1] for row in short) == ["baseline", "no verdict"]


def test_a_page_gets_the_table_between_its_markers(report, plan):
    page = (plan.folder / "README.md").read_text()
    assert page.startswith("# Page\n\n<!-- results: begin -->\n") and page.endswith("<!-- results: end -->\n\nText.\n")
    assert cells(page) == cells(report.partition("## Seed noise")[0]) and "old" not in page


def test_the_same_records_make_the_same_bytes(report, plan):
    """However the first report came about, here from tables in another order of columns."""
    made = {file.name: file.read_bytes() for file in plan.folder.iterdir()}
    write_report(plan, plan_jobs(plan, []), ["question/plan.yaml", "--jobs", "2"])
    assert {file.name: file.read_bytes() for file in plan.folder.iterdir()} == made and len(made) == 18


@pytest.mark.parametrize("margin", [None, 0.1])
def test_a_variant_equal_to_the_baseline_has_a_report(plan, tmp_path, monkeypatch, margin):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    copy = replace(plan, file=tmp_path / "plan.yaml", margin=margin)
    jobs = plan_jobs(copy, [])
    rows = [
        {"variant": j.variant, "seed": j.seed, "status": "finished", "config": j.digest, METRIC: 0.5 + j.seed / 100}
        for j in jobs
    ]
    write_table(rows, copy.folder / "results.csv", ("variant", "seed"))
    text = write_report(copy, jobs, ["question/plan.yaml"]).read_text()
    primary = cells(section(text, "### 2 primary comparisons, fixed by the plan"))
    assert primary["good"][2] == "0"
    assert primary["good"][-1] == "no verdict: all differences are equal"


def test_unfinished_runs_stand_in_the_report_and_not_in_the_table(report, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    shutil.copytree(plan.folder, tmp_path / "question")
    longer = load_plan(tmp_path / "question/plan.yaml")
    longer.seeds.append(5)
    text = write_report(longer, plan_jobs(longer, []), ["question/plan.yaml"]).read_text()
    assert "30 runs, of which 18 finished, 7 diverged, 5 waiting" in text and "**The plan is not complete.**" in text
    assert "`good`, `same`: no verdict yet: 5 of 6 seeds." in text and "seed 5: waiting" in text
    assert {row["status"] for row in read_table(longer.folder / "results.csv")} == {"finished", "diverged"}


def test_a_run_whose_score_is_undefined_is_counted(report, plan, tmp_path, monkeypatch):
    """It finished, but its images did not support the metric: no mean contains it, and no winner comes of it."""
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    shutil.copytree(plan.folder, tmp_path / "question")
    copy = load_plan(tmp_path / "question/plan.yaml")
    copy.seeds.append(5)
    rows, jobs = read_table(copy.folder / "results.csv"), plan_jobs(copy, [])
    for job in jobs:
        if job.seed == 5:
            score = {"none": {METRIC: 0.51}, "same": {METRIC: 0.51}}.get(job.variant, {})
            rows.append({"variant": job.variant, "seed": 5, "status": "finished", "config": job.digest, **score})
    write_table(rows, copy.folder / "results.csv", ("variant", "seed"))
    text = write_report(copy, jobs, ["question/plan.yaml"]).read_text()
    counted = (
        "Without a score, as KID (EfficientNet-lite0) is undefined for their images: 1 of 6 runs of `good`, 1 of 6 "
        "runs of `odd`, 1 of 6 runs of `alone`."
    )
    assert counted in text and counted in (copy.folder / "README.md").read_text()
    assert "`good`: no verdict: 1 of 6 runs of good without a score." in text and "is better than" not in text
    undefined = "- `good`, seed 5: finished: KID (EfficientNet-lite0) is undefined for the images"
    assert undefined in section(text, "## Runs without a final score")
    assert "Without a score" not in report and "Diverged: 3 of 5 runs of `odd`, 4 of 5 runs of `alone`." in report


def test_a_primary_variant_without_any_score_and_other_protocols_are_named(report, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    folder = shutil.copytree(plan.folder, tmp_path / "question")
    rows = read_table(folder / "results.csv")
    for row in rows:
        if row["variant"] == "good":
            row.pop(METRIC, None)
            row["status"] = "diverged"
        else:
            row["protocol"] = "b" if (row["variant"], row["seed"]) == ("same", 4) else "a"
    write_table(rows, folder / "results.csv", ("variant", "seed"))
    copy = load_plan(folder / "plan.yaml")
    text = write_report(copy, plan_jobs(copy, []), ["plan.yaml"]).read_text()
    for page in (text, (folder / "README.md").read_text()):
        assert "Diverged: 5 of 5 runs of `good`, 3 of 5 runs of `odd`" in page
        assert "Scored under another protocol than most: 1 of 5 runs of `same`." in page
    mean = sum(SCORES["same"][:4]) / 4
    assert cells(section(text, "### 2 primary"))["same"][0] == "4" and f"{mean:.3f} [" in section(text, "### 2 primary")


def test_without_a_primary_comparison_the_baseline_is_among_the_exploratory_ones(report, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    folder = shutil.copytree(plan.folder, tmp_path / "question")
    text = (folder / "plan.yaml").read_text().replace("- good\n- same\n", "[]\n").replace("primary:\n[]", "primary: []")
    (folder / "plan.yaml").write_text(text)
    copy = load_plan(folder / "plan.yaml")
    written = write_report(copy, plan_jobs(copy, []), ["plan.yaml"]).read_text()
    assert "fixed by the plan" not in written
    assert cells(section(written, "### Exploratory comparisons"))["none"][-1] == "baseline"


def test_before_the_first_score(tmp_path):
    plan = make_plan(tmp_path)
    text = write_report(plan, plan_jobs(plan, []), ["question/plan.yaml"]).read_text()
    assert "Nothing can be compared: " in text and "25 runs, of which 25 waiting" in text
    assert not list(plan.folder.glob("*.png")) and read_table(plan.folder / "results.csv") == []


def test_intervals_have_the_digits_that_they_are_worth():
    assert interval_text(Interval(0.12199, 0.06843, 0.1756)) == "0.122 [0.068, 0.176]"
    assert (
        interval_text(Interval(26.086, 24.9, 27.3)) == "26.1 [24.9, 27.3]"
        and interval_text(Interval(310.4, 290, 331)) == "310 [290, 331]"
    )
    assert interval_text(Interval(0.21, 0.004, 0.42)) == "0.210 [0.004, 0.420]"  # it does exclude 0
    assert interval_text(Interval(0.5, 0.0, 1.0)) == "0.50 [0.00, 1.00]" and with_decimals(-0.001, 2) == "0.00"
    assert interval_text(Interval(0.1, 0.1, 0.1)) == "0.1000 [0.1000, 0.1000]"
    assert interval_text(Interval(1e-17, 0.0, 2e-17)) == "0.00000000 [0.00000000, 0.00000000]"
    assert interval_text(Interval(-0.0261, -0.0581, 0.00592)) == "-0.026 [-0.058, 0.006]"
    assert interval_text(Interval(0.45, math.nan, math.nan)) == "0.45"


def test_tables_in_two_languages():
    table = Table(["name", "50 %"], "lr", [["`a_b`", "-0.5 [-1, 2]"], ["c & d", "x|y"]])
    assert markdown(table)[1:3] == ["| --- | ---: |", "| `a_b` | -0.5 [-1, 2] |"] and r"x\|y" in markdown(table)[3]
    assert latex(table).splitlines()[1:] == [
        r"\begin{tabular}{lr}", r"\toprule", r"name & 50 \% \\", r"\midrule",
        r"\texttt{a\_b} & $-$0.5 [$-$1, 2] \\", r"c \& d & x|y \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    assert latex(table, Table(table.head, "lr", [])) == latex(table)  # no rule below the last line
    assert latex_cell("sn-d-2, 1e-05 < 3") == "sn-d-2, 1e-05 $<$ 3"


def test_a_design_that_changes_after_the_first_results_is_named(report, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    assert json.loads((plan.folder / "design.json").read_text()) == {
        "baseline": "none",
        "metric": METRIC,
        "primary": ["good", "same"],
        "seeds": [0, 1, 2, 3, 4],
        "margin": None,
    }
    assert "design was changed" not in report
    folder = shutil.copytree(plan.folder, tmp_path / "question")
    text = (folder / "plan.yaml").read_text().replace("- same\n", "- odd\n").replace("- 4\n", "- 4\n- 5\n")
    (folder / "plan.yaml").write_text(text)
    for _ in range(2):  # the next report still says so
        other = load_plan(folder / "plan.yaml")
        write_report(other, plan_jobs(other, []), ["plan.yaml"])
        said = (
            "**The design was changed after the first results**: `primary` was [good, same], and is now [good, odd]; "
            "`seeds` was [0, 1, 2, 3, 4], and is now [0, 1, 2, 3, 4, 5]. A verdict is valid only for a design"
        )
        assert said in (folder / "report.md").read_text() and said in (folder / "README.md").read_text()
    for text in ("[", "[" * 100_000):
        (folder / "design.json").write_text(text)
        with pytest.raises(UserError, match="design.json: damaged"):
            write_report(other, plan_jobs(other, []), ["plan.yaml"])


def test_the_order_of_seeds_and_variants_is_no_part_of_a_design(report, plan):
    other = replace(plan, seeds=plan.seeds[::-1], primary=plan.compared[::-1])
    assert changes_of_design(other, [{"status": "finished"}]) == []
    assert changes_of_design(replace(plan, margin=0.5), [{"status": "finished"}]) == [
        "`margin` was null, and is now 0.5"
    ]


def test_numbers_of_any_size_are_drawn_or_left_out(report, plan, tmp_path):
    folder = shutil.copytree(plan.folder, tmp_path / "question")
    curves = read_table(folder / "curves.csv")
    curves += [{**r, "step": r["step"] + 1000, METRIC: 1e308 if r["step"] == 500 else -1e308} for r in curves]
    results = [
        {**row, "flops": 1e308} if row["variant"] == "same" else row for row in read_table(folder / "results.csv")
    ]
    results[0][METRIC] = 1e100
    write_table(curves, folder / "curves.csv", ("variant", "seed", "step"))
    write_table(results, folder / "results.csv", ("variant", "seed"))
    copy = load_plan(folder / "plan.yaml")
    write_report(copy, plan_jobs(copy, []), ["plan.yaml"])
    assert sum(row[METRIC] == 1e100 for row in read_table(folder / "results.csv") if METRIC in row) == 1


def test_a_file_beside_the_tables_does_not_steer_the_terminal_of_a_reader(plan, report, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.ablation.report.draw", lambda *arguments: None)
    folder = shutil.copytree(plan.folder, tmp_path / "question")
    (folder / "protocol.json").write_text(json.dumps({"num_samples": "\x1b[31m", "seed": 0}))
    copy = load_plan(folder / "plan.yaml")
    text = write_report(copy, plan_jobs(copy, []), ["plan.yaml"]).read_text()
    assert r"\x1b[31m" in text and "\x1b" not in text
