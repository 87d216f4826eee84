"""Plans: what they mean, what they refuse, and those that are shipped."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sagan.ablation.plan import load_plan, plan_file, plan_names
from sagan.ablation.variants import plan_jobs
from sagan.commands.app import main
from sagan.config import ConfigError, Setting
from sagan.presets import load_config

SHIPPED = sorted((Path(__file__).parent.parent.parent / "experiments").glob("*/plan.yaml"))
PLAN = {
    "question": "Which?",
    "preset": "quickstart",
    "baseline": "none",
    "metric": "fid_efficientnet_lite0",
    "seeds": [0, 3],
    "settings": {"training.steps": 10, "training.batch_size": 4},
    "evaluation": {"every": 5, "extractor.name": "efficientnet-lite0"},
    "variants": {"none": {"model.*.attention.kind": "none"}, "large": {"training.batch_size": 8}},
    "sizes": {
        "small": None,
        "big": {
            "question": "Which, if large?",
            "seeds": [1],
            "metric": "recall_efficientnet_lite0",
            "processes": 2,
            "settings": {"training.steps": 20},
            "evaluation": {"every": 10},
            "variants": {"large": {"training.batch_size": 16}},
        },
    },
}


@pytest.fixture
def make_plan(tmp_path):
    def make(**changes):
        file = tmp_path / "question" / "plan.yaml"
        file.parent.mkdir(exist_ok=True)
        content = {key: value for key, value in {**PLAN, **changes}.items() if value != "absent"}
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    return make


def test_a_plan_is_its_variants_times_its_seeds(make_plan):
    plan = load_plan(make_plan())
    jobs = plan_jobs(plan, [Setting("training.batch_size", "2", "--"), Setting("evaluation.every", "2", "--")])
    assert [(j.variant, j.seed) for j in jobs] == [("none", 0), ("large", 0), ("none", 3), ("large", 3)]
    assert [j.config.run_dir for j in jobs][:2] == [
        "runs/question/small/none/seed-0",
        "runs/question/small/large/seed-0",
    ]
    assert [j.config.training.seed for j in jobs] == [0, 0, 3, 3]
    assert [j.config.training.batch_size for j in jobs[:2]] == [2, 8]  # command line over plan, variant over both
    assert jobs[0].config.evaluation.every == 2 and jobs[0].steps == 10
    kinds = [(m.generator.attention.kind, m.discriminator.attention.kind) for m in (j.config.model for j in jobs)]
    assert kinds[:2] == [("none", "none"), ("sagan", "sagan")]
    assert plan.folder == plan.file.parent and jobs[0].processes == 1


def test_a_size_replaces_and_adds(make_plan):
    plan = load_plan(make_plan(), "big")
    jobs = plan_jobs(plan, [])
    assert [(j.variant, j.seed, j.steps, j.config.training.batch_size) for j in jobs] == [
        ("none", 1, 20, 4),
        ("large", 1, 20, 16),
    ]
    assert plan.question == "Which, if large?" and plan.metric == "recall_efficientnet_lite0"
    assert plan.folder == plan.file.parent / "big"
    assert jobs[0].config.evaluation.extractor.name == "efficientnet-lite0"
    assert jobs[0].module[:4] == ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def test_a_setting_of_a_size_overrides_those_of_the_plan_that_name_one_network(make_plan):
    settings = {"model.*.channels": 8, "model.generator.channels": 16}
    plan = make_plan(settings=settings, sizes={"big": {"settings": {"model.*.channels": 32}}})
    model = plan_jobs(load_plan(plan), [])[0].config.model
    assert (model.generator.channels, model.discriminator.channels) == (32, 32)


def test_the_command_of_a_run_takes_a_mapping_and_its_entries(make_plan):
    options = "model.*.attention.options"
    shared = {**PLAN["settings"], "model.*.attention.kind": "multihead", f"{options}.heads": 4}
    variants = {"none": {options: {"heads": 2}}, "large": {options: {"heads": 2}, f"{options}.heads": 8}}
    jobs = plan_jobs(load_plan(make_plan(settings=shared, variants=variants)), [])
    for job, heads in zip(jobs[:2], (2, 8), strict=True):
        assert job.config.model.generator.attention.options == {"heads": heads}
        assert main([*job.arguments, "--dry-run"]) == 0


@pytest.mark.parametrize("size", ["small", "big"])
def test_the_command_of_a_run_gives_its_configuration(make_plan, size):
    for job in plan_jobs(load_plan(make_plan(), size), []):
        verb, preset, *tokens = job.arguments
        pairs = zip(tokens[::2], tokens[1::2], strict=True)
        assert verb == "train"
        assert load_config(preset, [f"{key.removeprefix('--')}={value}" for key, value in pairs]) == job.config


def test_the_digest_is_of_what_scores_depend_on(make_plan):
    def digest(*overrides):
        return plan_jobs(load_plan(make_plan()), [Setting(k, v, "--") for k, v in overrides])[0].digest

    assert digest() == digest(("logging.every", "7")) == digest(("device", "cpu")) == digest(("checkpoint.keep", "9"))
    others = [
        ("training.steps", "11"),
        ("evaluation.num_samples", "7"),
        ("optimizer.beta2", "0.5"),
        ("data.flip", "true"),
    ]
    digests = [digest(), *(digest(change) for change in others)]
    jobs = plan_jobs(load_plan(make_plan()), [])
    assert len({*digests, *(j.digest for j in jobs[1:])}) == len(digests) + 3


WRONG = {
    "unknown key": ({"sedes": [1]}, "sedes: unknown key; a plan has baseline"),
    "missing key": ({"preset": "absent"}, "preset: missing"),
    "baseline": ({"baseline": "no"}, "baseline no: expected one of none, large"),
    "twice the same seed": ({"seeds": [1, 1]}, r"seeds \[1, 1\]: expected a list of different numbers"),
    "no seeds": ({"seeds": []}, "seeds .*expected a list"),
    "seed of text": ({"seeds": ["a"]}, "seeds .*expected a list"),
    "a name with a slash": ({"variants": {"none": {}, "a/b": {}}}, "'a/b': expected a valid folder name"),
    "variant of text": ({"variants": {"none": "se"}}, "variants.none: expected a mapping, given 'se'"),
    "settings of text": ({"settings": "x"}, "settings: expected a mapping, given 'x'"),
    "unknown option": ({"settings": {"training.stps": 3}}, "plan.yaml: training.stps: there is no such option"),
    "unknown option of a variant": (
        {"variants": {"none": {"model.*.atention.kind": "se"}}},
        "plan.yaml: variants.none: model.generator.atention.kind: there is no such option",
    ),
    "wrong type": ({"variants": {"none": {"training.steps": "x"}}}, "variants.none: training.steps x: expected an int"),
    "contradiction": (
        {"variants": {"none": {"model.*.attention.resolutions": [5]}}},
        "variants.none: model.generator.* 5: no block",
    ),
    "no scores": ({"evaluation": {"every": 0}}, "evaluation.every 0: expected a number of steps"),
    "another extractor's metric": ({"metric": "fid"}, "metric fid: expected one of fid_efficientnet_lite0, kid"),
    "no question": ({"question": None}, "question None: expected text"),
    "a list as baseline": ({"baseline": ["none"]}, r"baseline \['none'\]: expected text"),
    "no preset": ({"preset": None}, "preset None: expected text"),
    "a number as a name": ({"settings": {1: 2}}, "settings: 1: expected a name; put it in quotes"),
    "a number as a size": ({"sizes": {64: None}}, "sizes: 64: expected a name"),
    "a size above the plan": ({"sizes": {"../../x": None}}, "sizes: '../../x': expected a valid folder name"),
    "a formula as a variant": ({"variants": {"none": {}, "$x^$": {}}}, "expected a valid folder name, without"),
    "half a surrogate as a variant": ({"variants": {"none": {}, "\ud800": {}}}, r"'\\ud800': expected a valid folder"),
    "a command to the terminal": ({"variants": {"none": {}, "\x1b[31mb": {}}}, r"'\\x1b\[31mb': expected a valid"),
    "a name of two lines": ({"sizes": {"a\nb": None}}, r"sizes: 'a\\nb': expected a valid folder name"),
    "an empty list as a variant": ({"variants": {"none": {}, "large": []}}, "variants.large: expected a mapping"),
    "too many processes": ({"processes": 100_000}, "processes 100000: expected a number above 0, at most 512"),
    "too many draws": ({"noise_draws": 10**12}, "noise_draws 1000000000000: expected a number above 0, at most 1000"),
    "a large seed": ({"seeds": [2**63]}, "seeds .*: expected a list of different numbers from 0, of at most 63 bits"),
    "margin without a number": ({"margin": True}, "margin True: expected a number above 0"),
    "infinite margin": ({"margin": float("inf")}, "margin inf: expected a number above 0"),
    "metric without logits": (
        {"metric": "is_mean_vgg16", "evaluation": {"every": 5, "extractor.name": "vgg16"}, "sizes": {}},
        "metric is_mean_vgg16: only inception and efficientnet-lite0 have class logits",
    ),
    "metric of classes": (
        {"metric": "intra_fid_efficientnet_lite0", "settings": {"data.num_classes": 0}, "sizes": {}},
        "metric intra_fid_efficientnet_lite0: the images have no classes",
    ),
    "too few images for the metric": (
        {"metric": "is_mean_efficientnet_lite0", "evaluation": {**PLAN["evaluation"], "num_samples": 99}, "sizes": {}},
        "needs at least 100 images, but evaluation.num_samples is 99",
    ),
    "size with an unknown key": (
        {"sizes": {"s": {"steps": 3}}},
        "sizes.s.steps: expected one of question, metric",
    ),
    "processes": ({"processes": 0}, "processes 0: expected a number above 0"),
    "noise draws": ({"noise_draws": True}, "noise_draws True: expected a number above 0"),
    "primary without a variant": ({"primary": ["none"]}, r"primary \['none'\]: expected a list of some of large"),
    "primary twice": ({"primary": ["large", "large"]}, "expected at most 3 different variants"),
    "four primary": (
        {"variants": {v: {} for v in ("none", "a", "b", "c", "d")}, "primary": ["a", "b", "c", "d"], "sizes": {}},
        "primary .*: expected at most 3 different variants",
    ),
    "margin": ({"margin": -1}, "margin -1: expected a number above 0, in units of fid_efficientnet_lite0"),
    "seeds of its own": ({"exploratory_seeds": [7]}, r"exploratory_seeds \[7\]: expected some of .* seeds, 0, 3"),
    "too few real images": (
        {"evaluation": {**PLAN["evaluation"], "num_real": 1}},
        "metric fid_efficientnet_lite0: needs at least 2 images, but evaluation.num_real is 1",
    ),
    "too few of each class": (
        {
            "metric": "intra_fid_efficientnet_lite0",
            "settings": {"data.num_classes": 10},
            "evaluation": {**PLAN["evaluation"], "num_samples": 900},
        },
        "needs at least 1000 images, 100 of each class, but evaluation.num_samples is 900",
    ),
    "preset": ({"preset": "nosuch"}, "nosuch: neither a YAML file nor a preset"),
}


def test_agreement_is_a_metric_of_data_with_a_rule(make_plan):
    changes = {"metric": "agreement", "sizes": {}}
    paired = {**PLAN["settings"], "data.source": "pairs", "data.num_classes": 0}
    assert plan_jobs(load_plan(make_plan(**changes, settings=paired)), [])
    with pytest.raises(ConfigError, match="metric agreement: expected one of fid_efficientnet_lite0"):
        plan_jobs(load_plan(make_plan(**changes)), [])
    with pytest.raises(ConfigError, match="metric agreement_chance: expected one of"):  # neither direction is better
        plan_jobs(load_plan(make_plan(**{**changes, "metric": "agreement_chance"}, settings=paired)), [])


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_refused_in_words(make_plan, case):
    changes, words = WRONG[case]
    with pytest.raises(ConfigError, match=words) as error:
        plan_jobs(load_plan(make_plan(**changes)), [])
    assert "plan.yaml" in str(error.value)


def test_what_is_compared(make_plan):
    """Old plans, which name nothing, compare all variants if there are no more than three."""
    assert load_plan(make_plan()).compared == ["large"] and load_plan(make_plan(primary=[])).compared == []
    many = {v: {} for v in ("none", "a", "b", "c", "d")}
    assert load_plan(make_plan(variants=many)).compared == []
    plan = load_plan(make_plan(variants=many, primary=["d", "a"], exploratory_seeds=[3], sizes={}))
    assert plan.compared == ["d", "a"]
    jobs = plan_jobs(plan, [])
    assert [(j.variant, j.seed) for j in jobs if j.seed == 0] == [("none", 0), ("a", 0), ("d", 0)]
    assert [j.variant for j in jobs if j.seed == 3] == list(many)


def test_a_margin_is_in_units_of_the_metric(make_plan):
    with pytest.raises(ConfigError, match="sizes.big.margin: missing: 0.5 is in units of fid_efficientnet_lite0"):
        load_plan(make_plan(margin=0.5), "big")
    sizes = {"small": None, "big": {"metric": "recall_efficientnet_lite0", "margin": None}}
    assert load_plan(make_plan(margin=0.5, sizes=sizes), "big").margin is None
    assert load_plan(make_plan(margin=0.5, sizes=sizes)).margin == 0.5


def test_where_a_plan_writes(make_plan, tmp_path, monkeypatch):
    file = make_plan()
    other = file.with_name("other.yaml")
    other.write_text(file.read_text())
    assert [load_plan(file, s).folder for s in ("small", "big")] == [file.parent, file.parent / "big"]
    assert [load_plan(other, s).folder for s in ("small", "big")] == [file.parent / "other", file.parent / "other/big"]
    assert plan_jobs(load_plan(other), [])[0].run_dir == Path("runs/other/small/none/seed-0")
    monkeypatch.setattr("sagan.ablation.plan.PACKAGE", tmp_path)  # as if it lay in an installed package
    assert [load_plan(file, s).folder for s in ("small", "big")] == [Path("question"), Path("question/big")]


def test_plans_are_known_by_name(monkeypatch, tmp_path):
    assert plan_names() == [file.parent.name for file in SHIPPED]
    monkeypatch.chdir(tmp_path)
    assert [plan_file(name) for name in plan_names()] == SHIPPED
    monkeypatch.chdir(SHIPPED[0].parent.parent)
    assert plan_file("recipe") == Path("recipe/plan.yaml") and plan_file("x/y.yaml") == Path("x/y.yaml")
    with pytest.raises(ConfigError, match="reciep: neither a YAML file nor a plan; the plans are attention-kinds, "):
        plan_file("reciep")


def test_a_file_that_is_no_plan(make_plan, tmp_path):
    with pytest.raises(ConfigError, match="--size huge: .*plan.yaml has small, big"):
        load_plan(make_plan(), "huge")
    with pytest.raises(ConfigError, match="none.yaml: cannot be read as a plan"):
        load_plan(tmp_path / "none.yaml")
    for text in ("- 1", "a: [", ""):
        (tmp_path / "text.yaml").write_text(text)
        with pytest.raises(ConfigError, match="text.yaml: "):
            load_plan(tmp_path / "text.yaml")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_a_shipped_plan_is_valid_in_every_size(file):
    for size in load_plan(file).sizes:
        plan = load_plan(file, size)
        jobs = plan_jobs(plan, [])
        assert len(jobs) == sum(len(plan.seeds_of(v)) for v in plan.variants) and len(plan.seeds) >= 3
        assert len({job.digest for job in jobs}) == len(jobs)  # no two variants are the same thing
        assert 1 <= len(plan.compared) <= 3 or plan.primary == []  # exploratory as a whole, and says so
        data = {str(replace(job.config.data, flip=False)) for job in jobs}
        assert len(data) == len({str(job.config.evaluation) for job in jobs}) == 1  # so they share a protocol


def test_the_questions_that_are_shipped():
    assert [file.parent.name for file in SHIPPED] == [
        "attention-kinds",
        "attention-placement",
        "distant-parts",
        "positions",
        "recipe",
        "stability",
    ]
    from sagan.attention import KINDS

    kinds = {job.config.model.generator.attention.kind for job in plan_jobs(load_plan(SHIPPED[0]), [])}
    assert kinds == set(KINDS)
