"""From run directories to tables and back."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from sagan.ablation.csv_files import read_table, write_table
from sagan.ablation.jobs import commands_left, ending, note_failure, vouched
from sagan.ablation.outcomes import final_draws, is_done, missing_draws, obstacle, status
from sagan.ablation.results import collect, curve_rows, recorded, result_row
from sagan.ablation.variants import Job
from sagan.config import UserError, to_yaml
from sagan.layers import Conv2d, Linear
from sagan.runs.directory import checkpoint_path
from sagan.runs.records import append_evaluation, last_recorded_step

SCORE = "fid_efficientnet_lite0"


@pytest.fixture
def make_job(make_config, tmp_path):
    """Return make_job(variant, seed, steps), which describes a run that has not started."""

    def make(variant, seed=0, steps=20, *overrides):
        run_dir = tmp_path / variant / f"seed-{seed}"
        config = make_config(f"run_dir={run_dir}", f"training.seed={seed}", f"training.steps={steps}", *overrides)
        return Job(variant, seed, config, ("train",))

    return make


def write_run(job, scores, **last):
    """Write what training leaves: a configuration, records every ten steps, scores by step."""
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "config.yaml").write_text(to_yaml(job.config))
    records = []
    for step in (10, 20):
        speed, memory = {10: 100.0, 20: 300.0}[step], {10: 1.0, 20: 2.5}[step]
        records.append(
            {
                "step": step,
                "speed/images_per_second": speed,
                "memory/peak_gib": memory,
                "attention/gamma/generator.blocks.0.attention": -0.1 * step,
                "attention/gamma/generator.blocks.1.attention": 0.3 * step,
            }
            | last
        )
        if step in scores:
            protocol = {"protocol": {"n_fake": 16, "step": step}}
            records.append(
                {"step": step, SCORE: scores[step], "precision_efficientnet_lite0": 0.5, "evaluation": protocol}
            )
    records.insert(1, {"step": 10, "warning": "vanished"})
    text = "".join(json.dumps(r) + "\n" for r in records)
    (job.run_dir / "metrics.jsonl").write_text(text)


def test_the_row_of_a_finished_run(make_job):
    job = make_job("sagan", 3)
    write_run(job, {10: 50.0, 20: 40.0})
    row = result_row(job)
    assert (row["variant"], row["seed"], row["steps"], row[SCORE]) == ("sagan", 3, 20, 40.0)
    assert (row["images_per_second"], row["peak_memory_gib"]) == (200.0, 2.5)
    assert row["gamma_generator"] == pytest.approx((2 + 6) / 2) and "gamma_discriminator" not in row
    assert (row["status"], row["reason"], row["warnings"], row["config"]) == ("finished", "", "vanished", job.digest)
    assert [(r["step"], r[SCORE]) for r in curve_rows(job)] == [(10, 50.0), (20, 40.0)]


def test_only_the_runs_own_evaluation_counts(make_job):
    """A later evaluation with other settings, or training beyond the plan's steps, changes nothing."""
    job = make_job("sagan")
    write_run(job, {10: 50.0, 20: 40.0})
    before = result_row(job)
    with open(job.run_dir / "metrics.jsonl", "a") as file:
        other = {"step": 20, SCORE: 1.0, "evaluation": {"protocol": {"n_fake": 9, "step": 20}}}
        longer = {"step": 30, "speed/images_per_second": 9e9, "memory/peak_gib": 9.0, "warning": "saturated"}
        file.write(f"{json.dumps(other)}\n{json.dumps(longer)}\n")
    assert result_row(job) == before and [r[SCORE] for r in curve_rows(job)] == [50.0, 40.0]


def test_an_evaluation_of_the_users_own_finishes_no_run(make_job):
    job = make_job("sagan")
    write_run(job, {10: 50.0})
    append_evaluation(job.run_dir, {"step": 20, SCORE: 1.0, "evaluation": {"protocol": {}}}, by="sagan evaluate")
    assert status(job)[0] == "waiting" and SCORE not in result_row(job)


def test_a_run_of_another_configuration_is_no_result(make_job, make_config):
    job = make_job("sagan")
    write_run(job, {20: 40.0})
    (job.run_dir / "config.yaml").write_text(to_yaml(make_config(f"run_dir={job.run_dir}", "optimizer.beta2=0.5")))
    assert status(job)[0] == "failed" and "another configuration" in status(job)[1]
    assert SCORE not in result_row(job)
    (job.run_dir / "config.yaml").write_text(to_yaml(make_config("training.steps=99", "logging.every=3", "device=cpu")))
    assert status(job)[0] == "finished"  # it was trained for longer, on another device


def test_the_cost_of_networks(make_job):
    """Parameters as the networks have them; FLOPs without the work that is done once per step."""
    from sagan.ablation.cost import network_cost
    from sagan.models.build import build_discriminator, build_generator

    config = make_job("a").config
    cost = network_cost(config)
    networks = build_generator(config), build_discriminator(config)
    assert cost["parameters"] == sum(p.numel() for n in networks for p in n.parameters())
    wider = network_cost(make_job("b", 0, 20, "model.discriminator.channels=8").config)
    assert wider["flops"] > cost["flops"] and network_cost(make_job("c", 5).config) == cost


def test_flops_are_those_of_the_layers_for_one_image(make_job):
    """By hand, from the shapes in a real pass. What is done once per step, such as fusing kernels, is not counted."""
    from sagan.ablation.cost import network_cost
    from sagan.models.build import build_discriminator, build_generator

    total = 0

    def count(layer, given, output):
        nonlocal total
        taps = layer.weight[0, 0].numel()  # 1 for a linear layer
        pixels = [x[0, 0].numel() for x in (given[0], output)]
        if pixels[0] != pixels[1] and taps == 9:
            taps = 16  # convolution and resampling as one strided convolution
        total += 2 * taps * layer.weight.shape[0] * layer.weight.shape[1] * min(pixels)

    plain = (f"model.{network}.attention.kind=none" for network in ("generator", "discriminator"))
    config = make_job("a", 0, 20, *plain).config
    generator, discriminator = build_generator(config).eval(), build_discriminator(config).eval()
    for layer in (*generator.modules(), *discriminator.modules()):
        if isinstance(layer, Conv2d | Linear):
            layer.register_forward_hook(count)
    y = torch.zeros(1, dtype=torch.long)
    discriminator(generator(torch.zeros(1, generator.z_dim), y), y)
    assert network_cost(config)["flops"] == total


def test_statuses(make_job):
    job = make_job("a")
    assert status(job) == ("waiting", "")
    checkpoint_path(job.run_dir, 10).parent.mkdir(parents=True)
    checkpoint_path(job.run_dir, 10).touch()
    assert status(job) == ("interrupted", "at step 10 of 20")
    note_failure(job.run_dir, "diverged", "step 12: not finite: loss/generator")
    assert status(job) == ("diverged", "step 12: not finite: loss/generator")
    (make := make_job("b")).run_dir.mkdir(parents=True)
    write_run(longer := make_job("c", 0, 30), {20: 4.0})
    assert status(longer)[0] == "waiting" and status(make)[0] == "waiting"  # 20 scored steps are not 30
    assert last_recorded_step(longer.run_dir) == 20


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("one\nsagan train: error: step 3: not finite: x\n", 3, ("diverged", "step 3: not finite: x")),
        ("sagan train: error: data.path x: no such folder\n", 1, ("failed", "data.path x: no such folder")),
        ("[rank0]: sagan train: error: step 3: bad\n  exitcode  : 3 (pid: 9)\n", 1, ("diverged", "step 3: bad")),
        ("Traceback\nMemoryError: no\n", 1, ("failed", "MemoryError: no")),
        ("", -9, ("failed", "killed by SIGKILL")),
        ("", 7, ("failed", "exit code 7")),
    ],
)
def test_how_a_process_ended(output, code, expected):
    assert ending(output, code) == expected


def test_rows_outlive_their_runs_until_the_plan_changes(make_job, tmp_path):
    jobs = [make_job("none"), make_job("sagan")]
    write_run(jobs[0], {10: 9.0, 20: 8.0})
    results, curves = collect(jobs, tmp_path)
    write_table(recorded(results), tmp_path / "results.csv", ("variant", "seed"), ("status", "config"))
    assert [row["variant"] for row in read_table(tmp_path / "results.csv")] == ["none"]  # nobody has started the other
    write_table(curves, tmp_path / "curves.csv", ("variant", "seed", "step"))
    shutil.rmtree(jobs[0].run_dir)
    again, curves_again = collect(jobs, tmp_path)
    assert again[0][SCORE] == 8.0 and again[0]["status"] == "finished" and again[1]["status"] == "waiting"
    assert [(r["step"], r[SCORE]) for r in curves_again] == [(10, 9.0), (20, 8.0)]
    note_failure(jobs[0].run_dir, "failed", "tried again, in vain")  # replaces nothing that is finished
    assert collect(jobs, tmp_path)[0] == again
    for others in ([make_job("none", 0, 40)], [make_job("sagan")], [make_job("none", 1)]):
        with pytest.raises(
            UserError, match="results.csv: holds 1 run that this plan does not contain, such as none, seed 0"
        ):
            collect(others, tmp_path)


def test_what_is_wrong_with_a_table(tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="results.csv: expected a table with the columns variant and seed"):
        collect([], tmp_path)
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="results.csv: cannot be read as a table"):
        collect([], tmp_path)


DAMAGE = {
    "config.yaml": ["[", "a: b: c", "7", "", "data: 3", "model: {generator: null}", b"\xff\xfe"],
    "failure.json": [
        "{",
        "[]",
        '{"status": "failed"}',
        '{"status": "finished", "reason": "x"}',
        '{"status": [], "reason": "x"}',
        "[" * 100_000,
        b"\xff",
    ],
    "metrics.jsonl": [
        "7\n",
        '{"step": "x"}\n',
        '{"loss": 1}\n',
        '{"step": 1%s}\n' % ("0" * 300),
        '{"step": 10, "evaluation": 3}\n',
        '{"step": 10, "fid": "x", "evaluation": {"protocol": {}}}\n',
        '{"step": 10, "fid": [1], "evaluation": {"protocol": {}}}\n',
        '{"step": 10, "fid": 1%s, "evaluation": {"protocol": {}}}\n' % ("0" * 400),
        '{"step": 10, "fid": 1.0, "evaluation": {"protocol": {"seed": [1]}}}\n',
        '{"step": 10, "speed/images_per_second": {}}\n',
        '{"step": 10, "memory/peak_gib": null}\n',
        '{"step": 10, "attention/gamma/generator.x": "0"}\n',
        '{"step": 10, "warning": []}\n',
        "x" * 2000,
        b"\xff" * 2000,
    ],
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, contents in DAMAGE.items() for c in contents])
def test_a_damaged_file_is_named_and_harms_no_other_run(make_job, tmp_path, name, content):
    jobs = [make_job("none"), make_job("sagan")]
    write_run(jobs[0], {20: 8.0})
    write_run(jobs[1], {})
    (jobs[1].run_dir / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    results, curves = collect(jobs, tmp_path)
    assert results[0][SCORE] == 8.0 and [row["variant"] for row in curves] == ["none"]
    assert results[1]["status"] == "damaged" and str(jobs[1].run_dir / name) in results[1]["reason"]
    assert not is_done(jobs[1]) and recorded(results) == results[:1]


def test_a_file_that_cannot_be_read_harms_no_other_run(make_job, tmp_path):
    """/proc/self/mem gives an input error where it is not mapped."""
    jobs = [make_job("none"), make_job("sagan")]
    write_run(jobs[0], {20: 8.0})
    write_run(jobs[1], {})
    (jobs[1].run_dir / "metrics.jsonl").unlink()
    (jobs[1].run_dir / "metrics.jsonl").symlink_to("/proc/self/mem")
    results, _ = collect(jobs, tmp_path)
    assert [row["status"] for row in results] == ["finished", "damaged"]
    assert "metrics.jsonl: cannot be read: Input/output error" in results[1]["reason"]


def test_a_finished_run_needs_no_record_of_a_failure(make_job):
    job = make_job("none")
    write_run(job, {20: 8.0})
    (job.run_dir / "failure.json").write_text("{")
    assert status(job) == ("finished", "") and is_done(job)
    more = replace(job, noise_draws=3)
    assert status(more)[0] == "damaged" and "failure.json" in status(more)[1]
    (job.run_dir / "failure.json").write_text('{"status": "failed", "reason": "no memory"}')
    assert status(more) == ("finished", "2 of 3 draws of z are not scored: no memory")


def test_a_run_that_is_not_the_plans_is_not_started(make_job):
    job = make_job("none")
    write_run(job, {20: 8.0})
    other = replace(job, config=replace(job.config, evaluation=replace(job.config.evaluation, num_samples=7)))
    assert obstacle(job) == "" and "has a run with another configuration" in obstacle(other)
    shorter = replace(job, config=replace(job.config, training=replace(job.config.training, steps=15)))
    checkpoint_path(job.run_dir, 20).parent.mkdir()
    checkpoint_path(job.run_dir, 20).touch()
    words = f"{job.run_dir} has been trained to step 20, beyond the plan's 15, and not scored there"
    assert obstacle(shorter) == words and status(shorter) == ("failed", words)


def test_a_curve_is_of_one_protocol(make_job):
    job = make_job("none")
    write_run(job, {10: 9.0, 20: 8.0})
    assert [row["step"] for row in curve_rows(job)] == [10, 20]
    file = job.run_dir / "metrics.jsonl"
    file.write_text(file.read_text().replace('"n_fake": 16, "step": 10', '"n_fake": 99, "step": 10'))
    assert [row["step"] for row in curve_rows(job)] == [20]


def test_a_run_without_an_average_is_scored_under_the_protocol_of_the_others(make_job):
    """The plan asks all runs for the same; one without an average has no other weights."""
    rows = []
    for averaged in (True, False):
        job = make_job("sagan" if averaged else "none")
        write_run(job, {20: 8.0})
        file = job.run_dir / "metrics.jsonl"
        file.write_text(file.read_text().replace('"n_fake": 16', f'"n_fake": 16, "ema": {str(averaged).lower()}'))
        rows.append(result_row(job))
    assert rows[0]["protocol"] == rows[1]["protocol"]


def test_a_seed_of_63_bits_survives_the_file(tmp_path):
    write_table([{"variant": "a", "seed": 2**63 - 1}], tmp_path / "table.csv", ("variant", "seed"))
    assert read_table(tmp_path / "table.csv") == [{"variant": "a", "seed": 2**63 - 1}]


def add_draw(job, seed, score, **terms):
    """Add what `sagan evaluate RUN --seed N` adds."""
    protocol = {"n_fake": 16, "step": 20, "seed": seed, "sagan": "99", **terms}
    record = {"step": 20, SCORE: score, "evaluation": {"protocol": protocol}}
    with open(job.run_dir / "metrics.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


def test_further_draws_name_what_a_file_alone_may_not(make_config):
    own = "tests.helpers.own_attention.NeighbourhoodGate"
    extractor = ("evaluation.extractor.name=vgg16", "evaluation.extractor.weights=vgg.pth")
    config = make_config(f"model.generator.attention.kind={own}", "data.source=own_data.Arrays", *extractor)
    assert vouched(config)[:4] == ["--extractor.name", "vgg16", "--extractor.weights", "vgg.pth"]
    assert vouched(config)[4:] == ["--trust_module", "own_data,tests.helpers.own_attention"]


def test_evaluation_noise_is_that_of_several_draws_of_z(make_job):
    job = replace(make_job("sagan"), noise_draws=3)
    assert commands_left(job, job.run_dir)[0] == job.module
    assert [words[-1] for words in commands_left(job, job.run_dir)[1:]] == ["1", "2"]
    write_run(job, {})
    add_draw(job, 0, 40.0)  # the run's own
    assert status(job) == ("finished", "2 of 3 draws of z are not scored") and not is_done(job)
    assert f"{SCORE}_noise" not in result_row(job)
    add_draw(job, 1, 43.0)
    add_draw(job, 1, 99.0)  # once more
    add_draw(job, 2, 99.0, n_fake=9)  # on fewer images
    assert missing_draws(job) == [2]
    evaluate = ("sagan", "evaluate", str(job.run_dir), "--checkpoint", "step-00000020.pt", "--device", "cpu")
    own = ("--extractor.name", "inception", "--data.path", job.config.data.path)
    assert commands_left(job, job.run_dir) == [(*evaluate, *own, "--seed", "2")]
    note_failure(job.run_dir, "failed", "no network")
    assert status(job) == ("finished", "1 of 3 draws of z are not scored: no network")
    add_draw(job, 2, 46.0)
    assert is_done(job) and list(final_draws(job)) == [0, 1, 2]
    row = result_row(job)
    assert row[SCORE] == 40.0 and row["noise_draws"] == 3
    assert row[f"{SCORE}_noise"] == pytest.approx(3.0)  # of 40, 43 and 46
    assert [r[SCORE] for r in curve_rows(job)] == [40.0]


def test_a_table_survives_the_file(tmp_path):
    rows = [
        {"variant": "1", "seed": 0, "fid": 0.1234567891, "reason": 'a, "b"\nc'},
        {"variant": "b", "seed": 1, "n": 3},
    ]
    write_table(rows, tmp_path / "t.csv", ("variant", "seed"), ("reason",))
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "variant,seed,fid,n,reason"
    assert read_table(tmp_path / "t.csv") == [{**rows[0], "fid": 0.12345679}, rows[1]]
    assert read_table(tmp_path / "none.csv") == []
