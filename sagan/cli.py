"""The command line: `sagan VERB ...`. Each verb parses its options and makes one call.

Modules that load torch are imported inside the verbs, so that help and mistakes are answered at once.
"""

import sys
from pathlib import Path

from sagan.config import ConfigError, DataConfig, EvaluationConfig, UserError
from sagan.parsing import build_parser, config_of, new_parser, parse_options, presets, split_name, to_config, to_yaml

USAGE = """usage: sagan VERB ...

  train     train a SAGAN, or go on training it
  sample    generate images from a run, a checkpoint or exported weights
  evaluate  FID, IS, KID, precision and recall of a run, or of two folders
  export    write weights as safetensors
  bench     measure the speed of a training step
  pack      turn any data set into one memory-mapped file

`sagan VERB --help` explains a verb.
"""


def train(arguments: list[str]) -> None:
    """sagan train [PRESET_OR_FILE] [--section.key value ...]

    Train a run, or go on with it: the same command resumes. PRESET_OR_FILE is a YAML file or one of the presets below;
    options override what it says. --print_config prints the whole configuration and stops.
    """
    if wants_help(arguments):
        return build_parser(train, epilog=f"presets: {', '.join(presets())}").print_help()
    name, overrides = split_name(arguments)
    config = config_of(name, [o for o in overrides if o != "--print_config"])
    if "--print_config" in overrides:
        print(to_yaml(config), end="")
        return
    from sagan.training.loop import train as train_run

    train_run(config)


def sample(arguments: list[str]) -> None:
    """sagan sample RUN [--num N] [--classes [0,3]] [--seed S] [--out FILE.png|FILE.npz|FOLDER] ...

    Generate images. RUN is a run directory (its newest checkpoint), a checkpoint or an exported generator.safetensors;
    nothing else is needed, not the data set either. By default: one grid, a class in each row.
    """
    from sagan.sampling import SampleOptions
    from sagan.sampling import sample as generate

    parser = new_parser(sample)
    parser.add_class_arguments(SampleOptions, None)
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = one_run(arguments)
    print(generate(run, to_config(parse_options(parser, tokens), SampleOptions)))


def evaluate(arguments: list[str]) -> None:
    """sagan evaluate RUN [--num_samples N] [--extractor.name NAME] [--data.key value ...] [--split test]
           sagan evaluate --real FOLDER --fake FOLDER [--extractor.name NAME]

    Measure a run (its newest checkpoint) or a checkpoint against its data, or a folder of images against another. Options
    default to those of the run. The scores, with everything they depend on, are printed in one line, and added to the
    run's metrics.jsonl.
    """
    from sagan.evaluation.command import EvaluateOptions, evaluate_folders, evaluate_run, run_defaults

    parser = new_parser(evaluate)
    parser.add_class_arguments(EvaluateOptions, None)
    parser.add_class_arguments(EvaluationConfig, None, skip={"every"})
    parser.add_class_arguments(DataConfig, "data")
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = split_name(arguments)
    options = to_config(parse_options(parser, tokens), EvaluateOptions)
    if run is None:
        scores = evaluate_folders(options, to_config(parse_options(parser, tokens), EvaluationConfig))
    else:
        parser.set_defaults(run_defaults(run, options))
        values = parse_options(parser, tokens)
        scores = evaluate_run(run, options, to_config(values, EvaluationConfig), to_config(values["data"], DataConfig))
    if scores is not None:
        print(scores.report())


def export(arguments: list[str]) -> None:
    """sagan export RUN [--checkpoint best|FILE] [--out FOLDER]

    Write the weights of G (its moving average where there is one) and D as safetensors, with their configuration. Any
    program can read them; `sagan sample FOLDER/generator.safetensors` needs no other file.
    """
    parser = new_parser(export)
    parser.add_argument("--checkpoint", type=str | None, help="best, or a checkpoint file; null: the newest of the run.")
    parser.add_argument("--out", type=str | None, help="Folder to write; null: export/ in the run directory.")
    if wants_help(arguments):
        return parser.print_help()
    run, tokens = one_run(arguments)
    values = parse_options(parser, tokens)
    from sagan.generate import export as write

    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    for file in write(run, Path(values["out"] or folder / "export"), values["checkpoint"]):
        print(file)


def pack(arguments: list[str]) -> None:
    """sagan pack [PRESET_OR_FILE] --out FOLDER [--data.key value ...]

    Read a data set once and write it as one memory-mapped array of decoded images of `data.resolution`, for data larger
    than memory: train on it with --data.source packed --data.path FOLDER.
    """
    parser = build_parser(pack)
    parser.add_argument("--out", type=str, help="Folder to write; it must not exist, or hold a packed data set.")
    if wants_help(arguments):
        return parser.print_help()
    name, tokens = split_name(arguments)
    out, tokens = take(tokens, "--out")
    if out is None:
        raise ConfigError("--out: the folder to write is missing")
    config = config_of(name, tokens)
    from sagan.data import describe, open_data
    from sagan.data import pack as write

    dataset = open_data(config.data)
    lines, warnings = describe(dataset)
    print("\n".join([*lines, *(f"warning: {w}" for w in warnings)]))
    write(dataset, Path(out))
    print(f"{out}: {len(dataset):,} images; train on them with --data.source packed --data.path {out}")


def bench(arguments: list[str]) -> None:
    """sagan bench [PRESET_OR_FILE] [--json FILE] [--section.key value ...]

    Measure a training step (d_steps updates of D, one of G) of the preset's model on random images, side by side with
    the same model written plainly, and as a fraction of the machine's best matrix product.
    """
    parser = build_parser(bench)
    parser.add_argument("--json", type=str | None, help="File for the results.")
    if wants_help(arguments):
        return parser.print_help()
    name, tokens = split_name(arguments)
    file, tokens = take(tokens, "--json")
    config = config_of(name, tokens)
    from sagan.bench import bench as measure

    measure(config, Path(file) if file else None)


VERBS = {verb.__name__: verb for verb in (train, sample, evaluate, export, bench, pack)}


def wants_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def one_run(arguments: list[str]) -> tuple[str, list[str]]:
    """The RUN argument, and the rest."""
    run, tokens = split_name(arguments)
    if run is None:
        raise ConfigError("RUN is missing: a run directory, a checkpoint or exported weights")
    return run, tokens


def take(tokens: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option that is no part of the configuration, and the tokens without it."""
    for i, token in enumerate(tokens):
        if token == option and i + 1 < len(tokens):
            return tokens[i + 1], tokens[:i] + tokens[i + 2 :]
        if token.startswith(f"{option}="):
            return token.split("=", 1)[1], tokens[:i] + tokens[i + 1 :]
    return None, tokens


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb. Returns 0, 1 where something outside stops the work, or 2 where an option is wrong."""
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
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(f"sagan {verb}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
