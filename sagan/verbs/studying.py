"""Verbs that look at what was made: scores, attention, speed, and what a part is worth."""

import inspect
from dataclasses import fields
from pathlib import Path

from sagan.checks import check_attention, check_attention_bench, check_evaluation
from sagan.config import Config, ConfigError, DataConfig, EvaluationConfig
from sagan.option_parser import OptionParser, token_settings
from sagan.options import AblateOptions, AttentionBenchOptions, AttentionOptions, BenchOptions, EvaluateOptions
from sagan.parsing import read_config, to_config
from sagan.runtime.files import check_writable
from sagan.verbs.arguments import join_values, one_run, split_name, wants_help


def evaluate(arguments: list[str]) -> None:
    """sagan evaluate RUN [--num_samples N] [--extractor.name NAME] [--data.key value ...] [--split test]
           sagan evaluate --real FOLDER --fake FOLDER [--extractor.name NAME]

    Measure a run (its newest checkpoint) or a checkpoint against its data, or a folder of images against
    another. Options default to those of the run. The scores, with everything they depend on, are printed in
    one line, and added to the run's metrics.jsonl.

    examples:
      sagan evaluate runs/cifar10                                 # FID and the others, as published
      sagan evaluate runs/cifar10 --split test --num_samples 50000
      sagan evaluate runs/cifar10 --extractor.name efficientnet-lite0     # without a download
      sagan evaluate --real my-images --fake generated            # two folders
    """
    parser = OptionParser(inspect.getdoc(evaluate)).add(EvaluateOptions)
    parser.add(EvaluationConfig, skip=frozenset({"every"})).add(DataConfig, "data")
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = split_name(arguments)
    settings = token_settings(tokens)
    values = parser.parse(settings)
    options = to_config(values, EvaluateOptions)
    check_evaluation(to_config(values, EvaluationConfig))
    if run is None:
        refuse_for_folders(options, [s.key for s in settings])
    elif options.real or options.fake:
        raise ConfigError(f"--real and --fake compare two folders; they do not go with the run {run}")
    from sagan.evaluation.command import evaluate_folders, evaluate_run, run_settings

    if run is None:
        scores = evaluate_folders(options, to_config(values, EvaluationConfig))
    else:
        values = parser.parse([*run_settings(run, options), *settings])
        scores = evaluate_run(run, options, to_config(values, EvaluationConfig), to_config(values["data"], DataConfig))
    if scores is not None:
        print(scores.report())


def refuse_for_folders(options: EvaluateOptions, given: list[str]) -> None:
    """Raises ConfigError for what a comparison of two folders lacks, or has no use for."""
    if not (options.real or options.fake):
        raise ConfigError("RUN is missing: a run directory or a checkpoint; or both --real FOLDER and --fake FOLDER")
    if not (options.real and options.fake):
        given, missing = ("--real", "--fake") if options.real else ("--fake", "--real")
        raise ConfigError(f"{given} {options.real or options.fake}: {missing} FOLDER is missing")
    useful = ("real", "fake", "device", "batch_size", "extractor.")
    for key in given:
        if not key.startswith(useful):
            raise ConfigError(
                f"--{key} is for a RUN: --real {options.real} and --fake {options.fake} are compared whole"
            )


def attention(arguments: list[str]) -> None:
    """sagan attention RUN [--queries auto|Y,X ...] [--network NAME] [--layer NAME] [--data.key value ...] ...

    Draw the attention maps of a run (its newest checkpoint), a checkpoint or an exported
    generator.safetensors: for points of an image, where each of them looks, and gates as bars or masks. The
    generator's on its images; the discriminator's on these and on real ones, where the run's data, or those
    that the options name, can be opened. Every file written is printed.

    examples:
      sagan attention runs/quickstart                             # five points on each of four images
      sagan attention runs/quickstart --queries 8,8 20,14 --classes [0,3] --network generator
      sagan attention runs/quickstart --data.source shapes --out maps
      sagan attention runs/quickstart --animate webp              # a frame for each checkpoint
    """
    parser = OptionParser(inspect.getdoc(attention)).add(AttentionOptions).add(DataConfig, "data")
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = one_run(arguments)
    settings = token_settings(join_values(tokens, "--queries"))
    options = to_config(parser.parse(settings), AttentionOptions)
    data_keys = [s.key for s in settings if s.key.startswith("data.")]
    check_attention(options, data_keys)
    from sagan.viewing.command import data_settings, draw_attention

    values = parser.parse([*data_settings(run, options), *settings])
    for line in draw_attention(run, options, to_config(values["data"], DataConfig), bool(data_keys)):
        print(line)


def bench(arguments: list[str]) -> None:
    """sagan bench [PRESET_OR_FILE] [--json FILE] [--section.key value ...]
           sagan bench --attention [--key value ...]

    Measure a training step (d_steps updates of D, one of G) of the preset's model on random images, side by
    side with the same model written plainly, and as a fraction of the machine's best matrix product. With
    --attention: parameters, FLOPs, time and memory of every attention system, as a Markdown table;
    `sagan bench --attention --help` lists its options.

    examples:
      sagan bench cifar10                                         # on this machine
      sagan bench cifar10 --training.batch_size 32 --json bench.json
      sagan bench --attention --kinds [sagan,se] --sizes 16
    """
    if "--attention" in arguments:
        return bench_attention([a for a in arguments if a != "--attention"])
    parser = OptionParser(inspect.getdoc(bench)).add(BenchOptions).add(Config)
    if wants_help(arguments):
        return parser.print_help()
    name, tokens = split_name(arguments)
    config, values = read_config(parser, name, token_settings(tokens))
    file = Path(values["json"]) if values["json"] else None
    if file:
        check_writable(file, "--json", folder=False)
    from sagan.benchmark.step import bench as measure

    measure(config, file)


def bench_attention(arguments: list[str]) -> None:
    """sagan bench --attention [--key value ...]

    Measure parameters, FLOPs, time and memory of attention systems, each with its default options, alone, in a
    generator that trains; a Markdown table.
    """
    parser = OptionParser(inspect.getdoc(bench_attention)).add(AttentionBenchOptions)
    if wants_help(arguments):
        return parser.print_help()
    name, tokens = split_name(arguments)
    if name is not None:
        raise ConfigError(f"{name}: --attention measures attention systems alone, and takes no preset")
    options = to_config(parser.parse(token_settings(tokens)), AttentionBenchOptions)
    check_attention_bench(options)
    from sagan.benchmark.attention import measure

    print(measure(options))


def ablate(arguments: list[str]) -> None:
    """sagan ablate PLAN [--size NAME] [--jobs N] [--executor local|ray] [--report-only] [--section.key value ...]
           sagan ablate PLAN --power [--power_sd SD] [--power_difference D]

    Train and score every variant of a plan with every seed, each in a process and a run directory of its own, and
    write tables, plots and report.md. PLAN is the name of a shipped plan or a YAML file. A plan.yaml has its report
    beside it, NAME.yaml in NAME/ beside it. Finished runs are skipped, interrupted ones are resumed, failures are
    reported: to continue, run the same command. --report-only rewrites the report, --power says what the plan's
    seeds can show; neither trains anything. Options of `sagan train` apply to every run that does not set them
    itself.

    examples:
      sagan ablate attention-kinds                                # minutes a run, on two CPU cores
      sagan ablate attention-kinds --power --power_sd 0.004 --power_difference 0.01
      sagan ablate experiments/attention-kinds/plan.yaml --size gpu --jobs 8
      sagan ablate experiments/attention-kinds/plan.yaml --report-only
    """
    parser = OptionParser(inspect.getdoc(ablate)).add(AblateOptions).add(Config)
    if wants_help(arguments):
        return parser.print_help()
    flags = {"--report-only": "--report_only=true", "--power": "--power=true"}
    plan, tokens = split_name([flags.get(a, a) for a in arguments])
    if plan is None:
        raise ConfigError("PLAN is missing: the name of a plan, such as attention-kinds, or a YAML file")
    settings = token_settings(tokens)
    values = parser.parse(settings)
    own = {f.name for f in fields(AblateOptions)}
    overrides = [s for s in settings if s.key not in own]
    from sagan.ablation.command import ablate as run_plan

    print(run_plan(plan, to_config(values, AblateOptions), overrides, arguments))
