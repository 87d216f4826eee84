"""The pages say what the records, the presets and the code say, and their links lead somewhere.

A number on a page may carry a comment that readers do not see, with a file relative to the page:

    26.1<!-- from record.json scores.fid -->     an entry of a JSON file
    2.84<!-- from bench.csv 64 speedup -->       a cell of a CSV file: first column of the row, column
    0.70<!-- from results.csv none seed=0 agreement -->    ... of the row with this value in another column

`<!-- record: FILE.csv -->` before a table says that its cells are those of the file. The pages of ablations have
further comments, which test_published_numbers.py reads.
"""

import csv
import importlib
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from experiments.scaling import predict
from sagan.ablation.plan import load_plan
from sagan.ablation.variants import plan_jobs
from sagan.attention import KINDS, Place, build_attention
from sagan.benchmark.forms import counted_flops, plain_form
from sagan.config import AttentionConfig
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.models.sizes import DISCRIMINATOR_WIDTHS, GENERATOR_WIDTHS
from sagan.presets import load_config, presets
from sagan.runtime.flops import forward_flops
from tests.helpers.pages import PAGES, ROOT, anchors, cells, links, plain, short, tables

EXPERIMENTS = ROOT / "experiments"
FROM = re.compile(r"(?<![\w.,])(-?\d[\d,]*(?:\.\d+)?)<!-- from (\S+) (.+?) -->")
RECORD = re.compile(r"^<!-- record: (\S+) -->\n\n((?:^\|.*\|\n)+)", flags=re.M)
CITED = re.compile(r"https://github\.com/[\w-]+/[\w-]+/(blob/[0-9a-f]{40}/\S+|issues/\d+)|https://arxiv\.org/abs/\S+")


def rows(file):
    """Return the rows of a CSV file, as dictionaries of text."""
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def value_of(file, key):
    """Return the number in a record that a comment means."""
    if file.suffix == ".json":
        value = json.loads(file.read_text())
        for name in key.split("."):
            value = value[name]
        return float(value)
    *words, column = key.split()
    wanted = dict(word.split("=") for word in words if "=" in word)
    first = " ".join(word for word in words if "=" not in word)
    (row,) = (r for r in rows(file) if next(iter(r.values())) == first and wanted.items() <= r.items())
    return float(row[column])


def agrees(shown, value):
    """Return whether a number is a value rounded to as many decimals as are shown."""
    decimals = len(shown.partition(".")[2])
    return math.isclose(float(shown.replace(",", "")), value, rel_tol=0, abs_tol=0.5000001 * 10**-decimals)


def wrong_numbers(text, folder):
    """Return the numbers of a page that are not those of their records."""
    found = [(shown, file, key, value_of(folder / file, key)) for shown, file, key in FROM.findall(text)]
    return [number for number in found if not agrees(number[0], number[3])]


def wrong_tables(text, folder):
    """Return the records whose table on a page has other cells."""
    wrong = []
    for file, table in RECORD.findall(text):
        shown = [[plain(cell) for cell in cells(line)] for line in table.splitlines()[2:]]
        if shown != [list(row.values()) for row in rows(folder / file)]:
            wrong.append(file)
    return wrong


def parameters(network):
    """Return the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def row_of(page, first):
    """Return the cells of the row of a page's tables that begins with these words."""
    return next(row for table in tables(page.read_text()) for row in table if row[0] == first)


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_numbers_and_tables_are_those_of_the_records(page):
    text = page.read_text()
    assert wrong_numbers(text, page.parent) == []
    assert wrong_tables(text, page.parent) == []
    assert text.count("<!-- record:") == len(RECORD.findall(text))
    assert len(re.findall(r"<!-- from ", text)) == len(FROM.findall(text))


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*/*.csv")), ids=short)
def test_every_record_of_a_measurement_is_shown(file):
    if not (file.parent / "results.csv").exists() or file.name == "steps.csv":  # the others are tables of ablations
        assert f"<!-- record: {file.name} -->" in (file.parent / "README.md").read_text()


def test_the_prediction_for_many_gpus_is_that_of_the_presets():
    assert [predict.row(preset, gpus) for preset in predict.STEP_MS for gpus in predict.GPUS] == rows(
        EXPERIMENTS / "scaling/predicted.csv"
    )


def test_wrong_numbers_and_tables_are_noticed(tmp_path):
    (tmp_path / "a.json").write_text('{"x": {"y": 0.0146}}')
    (tmp_path / "b.csv").write_text("kind,ms\nsagan,1234.5\n")
    right = "0.015<!-- from a.json x.y --> 1,234.5<!-- from b.csv sagan ms -->"
    table = "<!-- record: b.csv -->\n\n| kind | ms |\n|---|---:|\n| `sagan` | 1,234.5 |\n"
    assert wrong_numbers(right, tmp_path) == [] and wrong_tables(table, tmp_path) == []
    assert len(wrong_numbers(right.replace("0.015", "0.014"), tmp_path)) == 1
    assert wrong_tables(table.replace("1,234.5", "1,234.6"), tmp_path) == ["b.csv"]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_in_the_table_of_kinds_are_those_of_the_layer(kind):
    place = Place(256, (32, 32), spectral_norm=True, batch_norm=True)
    shown = row_of(ROOT / "sagan/attention/README.md", f"`{kind}`")[3]
    assert int(plain(shown)) == parameters(build_attention(AttentionConfig(kind=kind), place))


def test_the_number_of_kinds_is_that_of_the_list():
    kinds = [kind for kind in KINDS if kind != "none"]
    readme, experiments = (ROOT / "README.md").read_text(), (EXPERIMENTS / "README.md").read_text()
    assert f"memory of all {len(kinds)}" in readme and f"{len(kinds)} kinds, which one" in readme
    assert f"[{len(set(kinds) - {'sagan', 'residual'})} kinds and the paper's control" in experiments


@pytest.mark.parametrize("row", rows(EXPERIMENTS / "attention-cost/costs.csv"), ids=lambda r: f"{r['kind']} {r['map']}")
def test_parameters_and_flops_of_the_costs_are_those_of_the_layer(row):
    side = int(row["map"].split("×")[0])
    place = Place(256, (side, side), spectral_norm=True, batch_norm=True)
    assert int(row["parameters"]) == parameters(build_attention(AttentionConfig(kind=row["kind"]), place))
    layer = build_attention(AttentionConfig(kind=row["kind"]), replace(place, spectral_norm=False)).to("meta").eval()
    assert agrees(row["gflops"], forward_flops(layer, torch.empty(1, 256, side, side, device="meta")) / 1e9)


@pytest.mark.parametrize("row", rows(EXPERIMENTS / "attention-tab/bytes.csv"), ids=lambda row: row["kind"])
def test_sizes_of_records_are_measured_again(row):
    measure = importlib.import_module("experiments.attention-tab.measure")
    measured = [measure._size(row["kind"], gain) / 1000 for gain in (1, 10)]
    assert measured == pytest.approx([float(row["initial_kb"]), float(row["tenfold_kb"])], rel=0.03)


@pytest.mark.parametrize("row", rows(EXPERIMENTS / "attention-tab/training.csv"), ids=lambda row: row["preset"])
def test_the_share_of_recording_follows_from_the_times(row):
    assert int(row["every"]) == load_config(row["preset"]).logging.attention_every
    share = 100 * float(row["record_s"]) / (int(row["every"]) * float(row["step_s"]))
    assert agrees(row["added_percent"], share)


def test_the_page_of_the_long_run_says_how_its_memory_grows():
    text = " ".join((EXPERIMENTS / "soak/README.md").read_text().split())
    measured = json.loads((EXPERIMENTS / "soak/measurements.json").read_text())
    highest = [
        max(m["resident_mib"] for m in measured if 2_000 * tenth < m["step"] <= 2_000 * (tenth + 1))
        for tenth in range(1, 10)
    ]
    assert highest == sorted(highest)  # "rises evenly"
    assert f"from {highest[0]} MiB in the second to {highest[-1]} in the last" in text
    per_thousand = (highest[-1] - highest[0]) / 16  # from the middle of a tenth to that of another
    assert f"{per_thousand:.2f} MiB per 1,000 steps, or about {round(per_thousand * 100) * 10} MiB in a million" in text
    assert f"memory grows by {per_thousand:.2f} MiB per 1,000 steps" in (EXPERIMENTS / "README.md").read_text()
    first = [m["resident_mib"] for m in measured if m["step"] == 500]
    assert f"Memory rises there by {round(first[2] - first[0])} MiB" in text


def test_the_page_of_more_processes_derives_its_shares():
    text = " ".join((EXPERIMENTS / "scaling/README.md").read_text().split())
    (two,) = (row for row in rows(EXPERIMENTS / "scaling/training.csv") if row["processes"] == "2")
    assert f"Averaging takes {100 * float(two['average_ms']) / float(two['step_ms']):.0f} % of a step of two" in text
    predicted = [row for row in rows(EXPERIMENTS / "scaling/predicted.csv") if row["preset"] == "imagenet"]
    least, most = sorted(f"{100 * (1 - float(row['efficiency'])):.0f}" for row in predicted if int(row["gpus"]) > 8)
    assert f"That costs {least} to {most} % beyond one machine." in text


def test_the_extractors_of_torch_fidelity_are_counted():
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    count = sum(name.startswith("clip-") for name in FEATURE_EXTRACTORS_REGISTRY)
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    assert f"`clip-vit-b-32` and {words[count - 1]} other CLIPs" in (EXPERIMENTS / "README.md").read_text()


@pytest.mark.parametrize("row", rows(EXPERIMENTS / "speed/bench.csv"), ids=lambda row: row["generator_base_width"])
def test_speedup_and_arithmetic_follow_from_the_images_per_second(row):
    fast, slow = float(row["images_per_second"]), float(row["plain_images_per_second"])
    assert float(row["speedup"]) == pytest.approx(fast / slow, abs=0.01)
    widths = [f"model.{n}.channels={row[f'{n}_base_width']}" for n in ("generator", "discriminator")]
    config = load_config("cifar10", [*widths, "training.batch_size=2", "training.precision=float32", "device=cpu"])
    per_image = counted_flops(plain_form(config, torch.device("cpu"))) / 2
    assert float(row["gflops"]) == pytest.approx(fast * per_image / 1e9, rel=0.01)


@pytest.mark.parametrize("name", presets())
def test_the_table_of_presets_is_that_of_the_files(name):
    config = load_config(name)
    model, training = config.model, config.training
    attention = model.generator.attention
    at = {("none" if a.kind == "none" else a.resolutions[0]) for a in (attention, model.discriminator.attention)}
    facts = (*config.data.size[:1], model.generator.channels, model.discriminator.channels, *at)
    shown = row_of(EXPERIMENTS / "README.md", f"[`{name}`]({name}.yaml)")
    assert [plain(cell) for cell in shown[2:]] == [str(v) for v in (*facts, training.batch_size, training.steps)]


def test_plans_are_listed():
    text = (EXPERIMENTS / "README.md").read_text()
    folders = [plan.parent.name for plan in EXPERIMENTS.glob("*/plan.yaml")]
    assert [name for name in folders if f"\n| [{name}]({name}/" not in text] == []


def test_the_multiples_of_the_base_width_are_those_of_the_table_of_sizes():
    text = " ".join((EXPERIMENTS / "README.md").read_text().split())
    (g,), (d,) = set(GENERATOR_WIDTHS[3][1]), set(DISCRIMINATOR_WIDTHS[3])
    assert f"a generator block has {g} times the base width and a discriminator block {['', '', 'twice'][d]}" in text
    assert f"full width means {64 * g} and {64 * d} channels" in text
    assert f"from {max(GENERATOR_WIDTHS[5][1])} down to {min(GENERATOR_WIDTHS[5][1])}" in text


def test_the_cifar10_cpu_page_is_about_its_weights():
    folder = EXPERIMENTS / "cifar10-cpu"
    record, config = json.loads((folder / "record.json").read_text()), load_config("cifar10-cpu")
    networks = {"generator": build_generator(config), "discriminator": build_discriminator(config)}
    gammas = {"generator": "generator_average", "discriminator": "discriminator"}
    for name, network in networks.items():
        assert f"{parameters(network):,}" in (folder / "README.md").read_text()
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            (gamma,) = (file.get_tensor(key).item() for key in file.keys() if key.endswith("gamma"))
            assert set(file.keys()) == set(network.state_dict())
        assert agrees(str(record["gamma"][gammas[name]]), gamma)
    training = record["training"]
    assert record["protocol"]["step"] == training["steps"] == config.training.steps
    seconds = training["steps"] * config.training.batch_size / training["images_per_second_alone"]
    assert agrees(str(training["minutes_alone"]), seconds / 60)


def test_numbers_in_sentences_are_those_of_the_files_and_plans():
    def page(name):
        return (EXPERIMENTS / name / "README.md").read_text()

    def megabytes(*names):
        return sum((EXPERIMENTS / "cifar10-cpu" / name).stat().st_size for name in names) / 1e6

    measurements = len(json.loads((EXPERIMENTS / "soak/measurements.json").read_text()))
    assert f"of the {measurements:,} measurements" in page("soak")
    assert f"{megabytes('generator.safetensors', 'discriminator.safetensors'):.1f} MB together" in page("cifar10-cpu")
    plan = load_plan(EXPERIMENTS / "distant-parts/plan.yaml", "minutes")
    runs = {9: "nine"}[len(plan_jobs(plan, []))]
    assert f"{runs} short runs and a report" in (ROOT / "README.md").read_text()


def test_the_size_of_a_checkpoint_follows_from_the_networks():
    """Weights, and Adam's two averages of each, in float32; the rest is less than 1 %."""
    config = load_config("imagenet")
    assert config.training.ema_decay == 0
    numbers = sum(parameters(build_skeleton(build, config)) for build in (build_generator, build_discriminator))
    shown = re.search(r"A checkpoint of `imagenet` takes (\d+) MB", (EXPERIMENTS / "launch/README.md").read_text())
    assert int(shown[1]) == pytest.approx(3 * 4 * numbers / 1e6, rel=0.01)


def test_the_readme_has_under_1500_words():
    assert len((ROOT / "README.md").read_text().split()) < 1500


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "SECURITY.md"))], ids=short)
def test_links_lead_somewhere(page):
    broken = []
    for link in links(page.read_text()):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not link.startswith("https://") and not (
            target.exists() and (not anchor or anchor in anchors(target.read_text()))
        ):
            broken.append(link)
    assert broken == []


def test_what_is_said_of_others_has_a_source():
    text = (EXPERIMENTS / "README.md").read_text()
    sources = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", text, flags=re.M))
    assert [url for url in sources.values() if not CITED.fullmatch(url)] == []
    (table,) = (table for table in tables(text) if "mimicry" in table[0])
    cited = [re.findall(r"\]\[([\w-]+)\]", cell) for row in table[1:] for cell in row[2:] if cell != "not checked"]
    assert all(cited) and {name for names in cited for name in names} == set(sources)


def test_paths_that_the_tour_names_exist():
    tour = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:sagan|tests|experiments|config|data|evaluation|ablation)/[\w./]+)`", tour)
    assert named and [path for path in named if not ((ROOT / path).exists() or (ROOT / "sagan" / path).exists())] == []


def test_the_tour_names_every_module_and_package_of_the_program_and_no_other():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tour = text[text.index("### The packages") : text.index("### How to add")]
    tabled = {name for row in tables(tour)[0][1:] for name in re.findall(r"`(\w+)`", row[0])}
    below = {re.sub(r"\.py$", "", name) for name in re.findall(r"`(\w+(?:\.py)?)`", tour.rpartition("|\n")[2])}
    parts = {p.stem for p in (ROOT / "sagan").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert tabled | below == parts - {"__init__"}
