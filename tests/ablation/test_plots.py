"""Plots: colours that everybody can tell apart, every run a dot, names that do not cover each other."""

import itertools
import math
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from sagan.ablation import plots, samples
from sagan.ablation.labels import label_points
from sagan.ablation.names import numbered_names, readable_names, short_names, width
from sagan.ablation.plan import Plan
from sagan.ablation.plots import BAND, BASELINE_BAND, axis_label, drawn_singly, seed_curves
from sagan.ablation.styles import GREY, KIND_STYLES, PALETTE, variant_styles
from sagan.ablation.variants import Job
from sagan.ablation.verdicts import summarize
from sagan.attention import KINDS
from sagan.presets import load_config
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoints
from sagan.runs.networks import load_generator
from sagan.runtime.pictures import to_uint8
from sagan.viewing.capture import fixed_inputs
from tests.helpers.tiny_runs import untrained_run

METRIC = "kid_mean"
# Machado et al. 2009, severity 1, on linear RGB; and normal sight.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(color, sight):
    """CIELAB (D65) of a #rrggbb colour as somebody sees it."""
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = np.array(to_xyz) @ seen / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), 841 / 108 * xyz + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_differ_for_everybody(sight):
    """A difference (CIE76) of 2 can just be noticed side by side; in a plot it wants many times that."""
    pairs = itertools.combinations([*PALETTE, "#ffffff"], 2)
    assert min(np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in pairs) > 15


def test_every_kind_has_a_style_of_its_own():
    assert list(KINDS) and set(KIND_STYLES) == set(KINDS)
    assert len(set(KIND_STYLES.values())) == len(KINDS) and {c for c, _ in KIND_STYLES.values()} == {*PALETTE} - {GREY}


def test_styles_of_variants():
    kinds = {"none": "none", "a": "sagan", "b": "sagan", "c": "coordinate", "own": "my.Kind", "other": "my.Other"}
    styles = variant_styles(kinds, "none")
    assert {s.color for v, s in styles.items() if kinds[v] == "sagan"} == {KIND_STYLES["sagan"][0]}
    assert (styles["a"].color, styles["a"].marker) == KIND_STYLES["sagan"]
    assert len(set(styles.values())) == len(kinds)
    same = variant_styles({f"v{i}": "sagan" for i in range(12)}, "v3")  # not a question of kinds
    assert len(set(same.values())) == 12 and same["v3"].color == PALETTE[0] and same["v0"].color == PALETTE[1]


SCORES = {"none": [0.5, 0.6, 0.55], "a": [0.3, 0.42, 0.35], "two": [0.9, 0.8], "one": [0.1]}


@pytest.fixture
def drawn(monkeypatch):
    """drawn(function, ...): the figure that a plot would save."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, stem: figures.append(figure))
    yield lambda function, *arguments: [function(*arguments), figures[-1]][1]
    plt.close("all")


def records():
    """Return a plan, results, summaries and styles."""
    plan = Plan("Which?", "cifar10", "none", METRIC, [0, 1, 2], {v: {} for v in SCORES}, ["a"])
    costs = {"parameters": 1000, "flops": 2e6, "images_per_second": 10.0}
    results = [
        {"variant": v, "seed": i, "status": "finished", METRIC: x, **{k: c * len(v) for k, c in costs.items()}}
        for v, xs in SCORES.items()
        for i, x in enumerate(xs)
    ]
    kinds = dict(zip(SCORES, ("none", "sagan", "se", "ge"), strict=True))
    return plan, results, summarize(results, "none", METRIC, ["a"]), variant_styles(kinds, "none")


def test_the_forest_plot_has_every_run_and_no_interval_of_two_seeds(drawn):
    left, right = drawn(plots.forest, *records()).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["two", "none", "a"]  # the best, with a low KID, on top
    runs = [line for line in left.lines if line.get_markersize() < 4 and line.get_linestyle() == "None"]
    assert sorted(x for line in runs for x in line.get_xdata()) == sorted(SCORES["none"] + SCORES["a"] + SCORES["two"])
    plain = [line for line in left.lines if (line.get_linestyle(), line.get_marker()) == ("-", "None")]
    flat = [line for line in plain if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    spans = {round(float(line.get_ydata()[0])): line.get_xdata() for line in flat}
    assert sorted(spans) == [1, 2]  # none and a, not the two seeds
    half = 4.302652729911275 * np.std(SCORES["a"], ddof=1) / math.sqrt(3)
    assert spans[2] == pytest.approx([np.mean(SCORES["a"]) - half, np.mean(SCORES["a"]) + half])
    low, high = left.get_xlim()
    assert low < min(x[0] for x in spans.values()) and 0.9 < high < 1.1 and low < right.get_xlim()[1]
    assert left.get_xlabel() == "KID, lower is better"


def test_the_forest_plot_says_how_many_runs_have_a_score(drawn):
    plan, results, _, styles = records()
    results.append({"variant": "a", "seed": 3, "status": "diverged"})
    left, right = drawn(plots.forest, plan, results, summarize(results, "none", METRIC, ["a"]), styles).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["two", "none", "a (3 of 4)"]


def apart(texts, renderer):
    """Return whether no two of these texts overlap."""
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    return not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


LONG = "a variant with quite a long name, written by somebody who likes words"


@pytest.mark.parametrize(
    "words", [f"{LONG} {{}}", "{} " + "W" * 70, "注意機構 {}"], ids=["words", "capitals", "Chinese"]
)
def test_names_of_any_length_and_script_leave_plots_legible(drawn, words):
    plan, results, _, styles = records()
    plan = replace(plan, variants={words.format(v): {} for v in SCORES}, baseline=words.format("none"), primary=[])
    results = [{**row, "variant": words.format(row["variant"])} for row in results]
    styles = {words.format(v): style for v, style in styles.items()}
    summaries = summarize(results, plan.baseline, METRIC, [])
    curves = [{**row, "step": step} for row in results for step in (500, 1000)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as if a letter has no glyph
        for plot, rows in (
            (plots.forest, (results, summaries)),
            (plots.score_against_steps, (curves,)),
            (plots.score_against_cost, (results, summaries)),
        ):
            figure = drawn(plot, plan, *rows, styles)
            figure.canvas.draw()
            renderer = figure.canvas.get_renderer()
            assert apart([axis.title for axis in figure.axes], renderer)
            for axis in figure.axes:
                assert axis.get_window_extent(renderer).width > 150  # pixels
                assert apart(axis.get_xticklabels(), renderer) and apart(axis.get_yticklabels(), renderer)
                assert apart(axis.texts, renderer)
            assert apart([axis.xaxis.label for axis in figure.axes], renderer)


def test_short_names_differ_and_ordinary_ones_are_unchanged():
    assert short_names(["none", "naïve", "Кот"]) == {"none": "none", "naïve": "naïve", "Кот": "Кот"}
    a, b, cut = f"{LONG} A", f"{LONG} B", LONG[:30] + "?" + LONG[31:]
    names = short_names([a, b, LONG, cut, "注意"])
    assert names[a].startswith("a variant") and names[a].endswith("words A") and names[b].endswith("words B")
    assert [names[LONG], names[cut], names["注意"]] == ["variant 3", "variant 4", "variant 5"]
    assert all(width(name, 9) <= 150 for name in names.values())
    assert list(numbered_names(names)) == [LONG, cut, "注意"] and readable_names([LONG, "注意"])[LONG] == LONG


@pytest.mark.parametrize("name", ["W" * 40, "W" * 99_000, "n02105855 Shetland sheepdog, Shetland sheep dog, Shetland"])
def test_headings_of_the_sample_sheet_stay_above_their_column(name):
    lines = samples.heading(name, "class 2").split("\n")
    assert len(lines) <= 6 and all(width(line, samples.FONT_SIZE) <= 72 * samples.INCH for line in lines)
    assert samples.heading("猫", "class 2") == samples.heading("", "class 2") == "class 2"


def test_legends_name_only_what_is_drawn(drawn):
    plan, results, _, styles = records()
    results = [row for row in results if row["seed"] < 2]
    figure = drawn(plots.forest, plan, results, summarize(results, "none", METRIC, ["a"]), styles)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one seed", "mean", "none (baseline)"]
    curves = [{"variant": "a", "seed": s, "step": t, METRIC: 0.1} for s in (0, 1) for t in (5, 10)]
    figure = drawn(plots.score_against_steps, plan, curves, styles)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one seed"]
    assert list(figure.axes[0].get_xticks()) == [5, 10]


def test_the_cost_plot_names_what_is_compared(drawn):
    plan, results, summaries, styles = records()
    figure = drawn(plots.score_against_cost, plan, results, summaries, styles)
    assert [a.get_xlabel() for a in figure.axes] == list(plots.COSTS.values())
    for axis in figure.axes:
        assert sorted(t.get_text() for t in axis.texts if t.get_text()) == ["a", "none", "two"]
        spans = {line.get_xdata()[0]: line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 2}
        assert len(spans) == 2  # two seeds have no interval, and a hollow mark
        assert sorted(line.get_markerfacecolor() == "white" for line in axis.lines if len(line.get_xdata()) == 1) == [
            False, False, True]  # fmt: skip
    partly = [{k: v for k, v in row.items() if k != "flops" or row["variant"] != "two"} for row in results]
    axis = drawn(plots.score_against_cost, plan, partly, summaries, styles).axes[1]
    assert axis.get_xlabel() == f"{plots.COSTS['flops']}\nnot measured: two"
    for row in results:
        row["parameters"], row["flops"] = 1000 + len(row["variant"]), 5e6  # the first differs by less than 1 %
    figure = drawn(plots.score_against_cost, plan, results, summaries, styles)
    assert [a.get_xlabel() for a in figure.axes] == ["images/s in training"]


@pytest.mark.parametrize("crowded", [1.0, 0.1], ids=["apart", "together"])
def test_names_cover_neither_each_other_nor_points(crowded):
    random = np.random.default_rng(0)
    places = random.normal(size=(19, 2)) * np.where(np.arange(19) < 12, crowded, 1)[:, None]
    points = {f"variant-{i}": (float(x), float(y)) for i, (x, y) in enumerate(places)}
    figure, axes = plt.subplots(figsize=(6, 5))
    axes.plot(*zip(*points.values(), strict=True), "o")
    axes.margins(0.15)
    figure.canvas.draw()
    colors = {name: f"#0000{i:02x}" for i, name in enumerate(points)}
    label_points(axes, points, colors, 7.5, [])
    renderer = figure.canvas.get_renderer()
    texts = [t for t in axes.texts if t.get_text()]
    boxes = [t.get_window_extent(renderer) for t in texts]
    assert len(texts) == 19 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    places = [axes.transData.transform(p) for p in points.values()]
    assert not any(box.contains(x, y) for box in boxes for x, y in places)
    frame = axes.get_window_extent(renderer)
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    pixels = {name: axes.transData.transform(point) for name, point in points.items()}
    joined = {t.arrow_patch.get_edgecolor() for t in axes.texts if t.arrow_patch is not None}
    for text, box in zip(texts, boxes, strict=True):
        if to_rgba(colors[text.get_text()]) not in joined:  # nothing but the distance says whose name it is
            away = {n: np.hypot(*(p - np.clip(p, box.min, box.max))) for n, p in pixels.items()}
            own = away.pop(text.get_text())
            assert own * 1.4 < min(away.values())
    assert crowded == 1 or len(joined) > 5
    plt.close(figure)


def test_bands_only_of_three_complete_curves(drawn):
    full, short = ([1, 2], [0.5, 0.4]), ([1], [0.6])
    assert drawn_singly([full, full]) == [full, full] and drawn_singly([full] * 3) == []
    assert drawn_singly([full, full, full, short]) == [short] and drawn_singly([full, full, short]) == [
        full,
        full,
        short,
    ]
    late = ([2], [0.4])  # its score was undefined at first
    assert drawn_singly([full, full, full, late]) == [late]
    assert drawn_singly([]) == []
    plan, _, _, styles = records()
    curves = [
        {"variant": v, "seed": s, "step": t, METRIC: 1 / t + s}
        for v in ("none", "a", "two", "one")
        for s in range(len(SCORES[v]))
        for t in (10, 20)
    ]
    assert seed_curves(curves, "two", METRIC) == {0: ([10, 20], [0.1, 0.05]), 1: ([10, 20], [1.1, 1.05])}
    figure = drawn(plots.score_against_steps, plan, curves, styles)
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert {v: len(a.collections) for v, a in panels.items()} == {"a": 2, "two": 1, "one": 1}  # none has a band in each
    assert {v: len(a.lines) for v, a in panels.items()} == {"a": 2, "two": 3, "one": 2}
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[0] == "none, baseline" and words[-1] == "one seed"
    lines = [line for axis in figure.axes for line in axis.lines]
    assert {line.get_color() for line in lines} == {style.color for style in styles.values()}  # as in the other plots
    assert {line.get_alpha() for line in lines} == {None}


def test_bands_of_the_control_and_the_baseline_differ_for_everybody():
    def on_white(color, opacity):
        return "#" + "".join(f"{round(255 - opacity * (255 - int(color[i : i + 2], 16))):02x}" for i in (1, 3, 5))

    control, baseline = on_white(KIND_STYLES["residual"][0], BAND), on_white(KIND_STYLES["none"][0], BASELINE_BAND)
    assert min(np.linalg.norm(lab(control, sight) - lab(baseline, sight)) for sight in SIGHT) > 5


def test_labels_of_axes():
    assert axis_label("recall_efficientnet_lite0") == "recall (EfficientNet-lite0), higher is better"


def test_the_sample_sheet_names_classes_and_leaves_out_damaged_files(make_config, tmp_path, monkeypatch, caplog):
    def job(variant):
        run_dir = tmp_path / variant / "seed-0"
        untrained_run(run_dir)
        return Job(variant, 0, load_config(str(run_dir / "config.yaml")), ("train",))

    jobs = [job("none"), job("residual-attention-with-a-long-name"), job("damaged"), job("another")]
    jobs[3] = replace(jobs[3], config=make_config(f"run_dir={jobs[3].run_dir}"))  # its run has another configuration
    path, names = checkpoints(jobs[0].run_dir)[0], ["cat", r"$\frac$", "a very long name of a class"]
    torch.save({**load_checkpoint(path), "data": {"class_names": names, "images": 3}}, path)
    checkpoints(jobs[2].run_dir)[0].write_bytes(b"damaged")
    sheets = []
    monkeypatch.setattr(samples, "save", lambda figure, stem, kinds: sheets.append((figure, stem, kinds)))
    samples.sample_sheet(jobs, tmp_path / "samples.png", 0, readable_names(job.variant for job in jobs))
    ((figure, stem, kinds),) = sheets
    figure.canvas.draw()  # reads formulas
    assert (stem, kinds) == (tmp_path / "samples", ("png",)) and "left out of samples.png" in caplog.text
    rows = np.array(figure.axes).reshape(2, samples.GRID_IMAGES)
    assert [axis.get_ylabel().split("\n")[0] for axis in rows[:, 0]] == ["none", "residual-attention-with-a-long-name"]
    assert [axis.get_title() for axis in rows[0, :4]] == ["cat", r"\$\frac\$", "a very long\nname of a\nclass", "cat"]
    generator = load_generator(jobs[0].run_dir)
    z, y = fixed_inputs(generator, samples.GRID_IMAGES)
    expected = to_uint8(generator(z, y))[3].permute(1, 2, 0).numpy()
    assert (rows[0, 3].images[0].get_array() == expected).all()
    plt.close("all")
