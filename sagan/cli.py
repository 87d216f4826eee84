"""The command line: `sagan VERB ...`. Each verb parses its options and makes one call.

Modules that load torch are imported inside the verbs, so that help and mistakes are answered at once.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from sagan.checks import check_attention, check_attention_bench, check_evaluation, check_sampling, check_writable
from sagan.config import Config, ConfigError, DataConfig, EvaluationConfig, UserError
from sagan.option_parser import OptionParser, token_settings
from sagan.options import (
    AblateOptions,
    AttentionBenchOptions,
    AttentionOptions,
    BenchOptions,
    EvaluateOptions,
    ExportOptions,
    PackOptions,
    SampleOptions,
)
from sagan.parsing import describe_preset, presets, read_config, to_config, to_yaml

USAGE = """usage: sagan VERB ...

  train     train a SAGAN, or go on training it
  sample    generate images from a run, a checkpoint or exported weights
  evaluate  FID, IS, KID, precision and recall of a run, or of two folders
  attention draw where the networks look, over generated and real images
  export    write weights as safetensors
  ablate    train and score the variants of a plan, and report what they differ in
  bench     measure the speed of a training step
  pack      turn any data set into one memory-mapped file

`sagan VERB --help` explains a verb.
"""


def train(arguments: list[str]) -> None:
    """sagan train [PRESET_OR_FILE] [--section.key value ...]

    Train a run, or go on with it: the same command resumes. PRESET_OR_FILE is one of the presets
    below or a YAML file; options override what it says. --print_config prints the whole configuration,
    which is itself such a file, and stops.

    examples:
      sagan train quickstart                                      # a first run, in minutes
      sagan train quickstart --training.steps 3000                # go on with it for longer
      sagan train cifar10 --training.batch_size 32 --run_dir runs/small-batch
      sagan train cifar10 --print_config > mine.yaml              # a file to edit
      sagan train mine.yaml --run_dir runs/mine
      sagan train tiny-imagenet --data.path my-images             # your own images, in class folders
      torchrun --nproc_per_node 2 -m sagan train cifar10          # on two GPUs

    presets:
    """
    if wants_help(arguments):
        known = presets()
        width = max(map(len, known), default=0)
        table = "\n".join(f"  {name:{width}}  {describe_preset(name)}" for name in known)
        return OptionParser(f"{inspect.getdoc(train)}\n{table}").add(Config).print_help()
    print_only = "--print_config" in arguments
    name, tokens = split_name([a for a in arguments if a != "--print_config"])
    config, _ = read_config(OptionParser().add(Config), name, token_settings(tokens))
    if print_only:
        print(to_yaml(config), end="")
        return
    from sagan.training.loop import train as train_run

    train_run(config)


def sample(arguments: list[str]) -> None:
    """sagan sample RUN [--num N] [--classes [0,3]] [--seed S] [--out FILE.png|FILE.npz|FOLDER] ...

    Generate images. RUN is a run directory (its newest checkpoint), a checkpoint or an exported
    generator.safetensors; nothing else is needed, not the data set either. By default: one grid, a class
    in each row.

    examples:
      sagan sample runs/quickstart                                # the grid
      sagan sample runs/quickstart --classes [0,3] --num 40       # two rows of twenty
      sagan sample runs/quickstart --num 1000 --out generated     # a PNG file for each image
      sagan sample runs/quickstart --interpolate z                # from one latent vector to another
      sagan sample runs/cifar10 --nearest cifar10                 # beside the nearest training images
    """
    parser = OptionParser(inspect.getdoc(sample)).add(SampleOptions)
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = one_run(arguments)
    options = to_config(parser.parse(token_settings(tokens)), SampleOptions)
    check_sampling(options)
    from sagan.sampling import sample as generate

    print(generate(run, options))


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


def export(arguments: list[str]) -> None:
    """sagan export RUN [--checkpoint best|FILE] [--out FOLDER]

    Write the weights of G (its moving average where there is one) and D as safetensors, with their
    configuration. Any program can read them.

    examples:
      sagan export runs/quickstart --out weights
      sagan sample weights/generator.safetensors                  # needs no other file
    """
    parser = OptionParser(inspect.getdoc(export)).add(ExportOptions)
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = one_run(arguments)
    options = to_config(parser.parse(token_settings(tokens)), ExportOptions)
    folder = Path(options.out or (Path(run) if Path(run).is_dir() else Path(run).parent) / "export")
    check_writable(folder, "--out", folder=True)
    from sagan.generate import export as write

    for file in write(run, folder, options.checkpoint):
        print(file)


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
    from sagan.bench import bench as measure

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
    from sagan.attention_cost import measure

    print(measure(options))


def ablate(arguments: list[str]) -> None:
    """sagan ablate PLAN [--size NAME] [--jobs N] [--executor local|ray] [--report-only] [--section.key value ...]

    Train and score every variant of a plan with every seed, each in a process and a run directory of its own, and
    write tables, plots and report.md beside the plan. What is finished is skipped, what was interrupted goes on, what
    fails is reported: the same command goes on at any time. --report-only writes the report anew and trains nothing.
    Options of `sagan train` hold for every run that does not set them itself.

    examples:
      sagan ablate experiments/attention-kinds/plan.yaml          # minutes a run, on two CPU cores
      sagan ablate experiments/attention-kinds/plan.yaml --size gpu --jobs 8
      sagan ablate experiments/attention-kinds/plan.yaml --report-only
    """
    parser = OptionParser(inspect.getdoc(ablate)).add(AblateOptions).add(Config)
    if wants_help(arguments):
        return parser.print_help()
    plan, tokens = split_name(["--report_only=true" if a == "--report-only" else a for a in arguments])
    if plan is None:
        raise ConfigError("PLAN is missing: a plan.yaml, such as experiments/attention-kinds/plan.yaml")
    settings = token_settings(tokens)
    values = parser.parse(settings)
    own = {f.name for f in fields(AblateOptions)}
    overrides = [s for s in settings if s.key not in own]
    from sagan.ablation.command import ablate as run_plan

    print(run_plan(plan, to_config(values, AblateOptions), overrides, arguments))


def pack(arguments: list[str]) -> None:
    """sagan pack [PRESET_OR_FILE] --out FOLDER [--data.key value ...]

    Read a data set once and write it as one memory-mapped array of decoded images of `data.resolution`, for
    data larger than memory.

    examples:
      sagan pack tiny-imagenet --data.path my-images --out packed
      sagan train tiny-imagenet --data.source packed --data.path packed --run_dir runs/packed
    """
    parser = OptionParser(inspect.getdoc(pack)).add(PackOptions).add(Config)
    if wants_help(arguments):
        return parser.print_help()
    name, tokens = split_name(arguments)
    config, values = read_config(parser, name, token_settings(tokens))
    if not values["out"]:
        raise ConfigError("--out: the folder to write is missing")
    out = Path(values["out"])
    check_writable(out, "--out", folder=True)
    from sagan.data import describe, open_data
    from sagan.data import pack as write

    dataset = open_data(config.data)
    lines, warnings = describe(dataset)
    print("\n".join([*lines, *(f"warning: {w}" for w in warnings)]))
    write(dataset, out)
    print(f"{out}: {len(dataset):,} images; train on them with --data.source packed --data.path {out}")


VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__: verb for verb in (train, sample, evaluate, attention, export, ablate, bench, pack)
}


def wants_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def split_name(arguments: list[str]) -> tuple[str | None, list[str]]:
    """A leading argument that is no option, None where there is none, and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def join_values(tokens: list[str], option: str) -> list[str]:
    """The tokens, with all values that follow an option made one."""
    if option not in tokens:
        return tokens
    start = tokens.index(option) + 1
    stop = next((i for i in range(start, len(tokens)) if tokens[i].startswith("--")), len(tokens))
    return [*tokens[:start], *([" ".join(tokens[start:stop])] if stop > start else []), *tokens[stop:]]


def one_run(arguments: list[str]) -> tuple[str, list[str]]:
    """The RUN argument, and the rest."""
    run, tokens = split_name(arguments)
    if run is None:
        raise ConfigError("RUN is missing: a run directory, a checkpoint or exported weights")
    return run, tokens


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


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb. Returns 0, 1 where something outside stops the work, 2 where an option is wrong, or 3 where training
    diverged."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("--help", "-h"):
        print(USAGE)
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"sagan: error: {verb}: there is no such verb; expected one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        VERBS[verb](rest)
    except (ConfigError, UserError) as error:
        print(f"sagan {verb}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"sagan {verb}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
