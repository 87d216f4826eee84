"""Verbs that make something: a run, images, files of weights, a packed data set."""

import inspect
from pathlib import Path

from sagan.checks import check_sampling
from sagan.config import Config, ConfigError
from sagan.option_parser import OptionParser, token_settings
from sagan.options import ExportOptions, PackOptions, SampleOptions
from sagan.parsing import describe_preset, presets, read_config, to_config, to_yaml
from sagan.runtime.files import check_writable
from sagan.verbs.arguments import one_run, split_name, wants_help


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
    from sagan.api import train as train_run

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
    from sagan.runs.networks import export as write

    for file in write(run, folder, options.checkpoint):
        print(file)


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
    from sagan.data import open_data, summarize
    from sagan.data import pack as write

    dataset = open_data(config.data)
    lines, warnings = summarize(dataset)
    print("\n".join([*lines, *(f"warning: {w}" for w in warnings)]))
    write(dataset, out)
    print(f"{out}: {len(dataset):,} images; train on them with --data.source packed --data.path {out}")
