"""The Python interface: what `from sagan import ...` offers beyond building and loading networks."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from sagan.config import Config, ConfigError, override_settings, to_config
from sagan.models.generator import Generator
from sagan.models.input_checks import whole
from sagan.presets import check
from sagan.runs.evaluation import evaluate_run
from sagan.runs.networks import load_generator, trust
from sagan.training import loop
from sagan.training.run import Callback
from sagan.viewing.capture import fixed_inputs, view_attention
from sagan.viewing.overlays import layer_pictures, view_queries
from sagan.viewing.recorder import AttentionRecorder
from sagan.viewing.subjects import Network, load_networks

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from sagan.evaluation import Scores


def train(config: Config, dataset: "Dataset[Any] | None" = None, callbacks: Iterable[Callback] = ()) -> Path:
    """Train the run of `config.run_dir`, or resume it from its newest checkpoint. Return that directory.

    `dataset` is any map-style data set of (uint8 image (C, H, W), int label). It replaces the data that `config.data`
    names, and the run records `data.source: dataset`. To resume such a run, give the same data set again. An item that
    cannot be read ends the run, whatever `data.on_error` says. `callbacks` are called after each step and after each
    evaluation.

    Raise ConfigError if the run there has a different configuration or data, and UserError if something is missing.
    """
    if not isinstance(config, Config):
        raise ConfigError(f"config {config!r}: expected a Config, such as `load_config` returns")
    if not isinstance(callbacks, Iterable):
        raise ConfigError(f"callbacks {callbacks!r}: expected a list of instances of subclasses of Callback")
    callbacks = list(callbacks)
    for i, callback in enumerate(callbacks):
        methods = (getattr(callback, name, None) for name in ("after_step", "after_evaluation"))
        if isinstance(callback, type) or not all(map(callable, methods)):
            raise ConfigError(f"callbacks[{i}] {callback!r}: expected an instance of a subclass of Callback")
    config = to_config(with_plain_values(asdict(config)))  # `dataclasses.replace` checks nothing
    check(config)
    return loop.train(config, dataset, callbacks=(AttentionRecorder(), *callbacks))


def with_plain_values(value: Any) -> Any:
    """Return a nested configuration with its paths as text, and numbers of NumPy as those of Python."""
    if isinstance(value, dict):
        return {key: with_plain_values(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, PurePath) else value


def evaluate(
    run: str | Path,
    overrides: Sequence[str] = (),
    *,
    dataset: "Dataset[Any] | None" = None,
    checkpoint: str | None = None,
    split: str = "train",
    device: str = "auto",
    ablate_layer: str | None = None,
    trust_module: str | Sequence[str] = (),
) -> "Scores | None":
    """Return the scores of a run's generator, and add them to the metrics.jsonl of the run that the checkpoint is in.

    `overrides` change the run's own protocol: `["num_samples=1000", "extractor.name=efficientnet-lite0"]`. The run's
    data are never downloaded; `dataset` takes their place, but a run that was trained on a data set from Python is
    scored against that one only. `ablate_layer` scores the generator without the attention
    layer of that name, or without "all". `trust_module` is as in `load_generator`. In several processes all but the
    main one return None.

    Raise ConfigError or UserError, before anything is generated, if an option, a file or a download is missing.
    """
    trust(trust_module)
    return evaluate_run(
        run,
        override_settings(overrides),
        checkpoint=checkpoint,
        split=split,
        device=device,
        dataset=dataset,
        ablate_layer=ablate_layer,
    )


def sample(
    run: str | Path | Generator,
    n: int,
    *,
    classes: int | str | Sequence[int | str] | None = None,
    seed: int = 0,
    truncation: float = 0.0,
    trust_module: str | Sequence[str] = (),
) -> Tensor:
    """Return `n` images of a run, a checkpoint, exported weights or a generator: uint8 (n, C, H, W).

    See `Generator.sample` for the options, and `load_generator` for `trust_module`. Raise UserError if the file cannot
    be read, ValueError for a wrong class or a truncation below 0.01.
    """
    generator = run if isinstance(run, Generator) else load_generator(run, trust_module=trust_module)
    return generator.sample(n, classes=classes, seed=seed, truncation=truncation)


def attention_figure(
    run: str | Path | Generator,
    *,
    layer: str | None = None,
    network: Network = "generator",
    num: int = 4,
    seed: int = 0,
    trust_module: str | Sequence[str] = (),
) -> Image.Image:
    """Return a picture of where a layer attends, for five points on each of `num` generated images.

    `layer` is a name such as "blocks.1.attention"; None takes the first that has maps. The picture of a matrix shows
    the mean over its heads. A generator in place of a run has no discriminator. `trust_module` is as in
    `load_generator`. Raise ConfigError if there is no such network or layer, ValueError for a wrong number or seed,
    UserError if the file cannot be read.
    """
    num, seed = whole(num, "num", 1), whole(seed, "seed", 0)
    there = ("generator",) if isinstance(run, Generator) else get_args(Network)
    if network not in there:
        raise ConfigError(f"network {network}: expected {' or '.join(there)}")
    trust(trust_module)
    generator, discriminator = (run, None) if isinstance(run, Generator) else load_networks(network, run)[:2]
    names = (generator.origin and generator.origin.class_names) or ()
    views = view_attention(generator, discriminator, *fixed_inputs(generator, num, seed), class_names=names)
    known = {view.layer: view for view in views if view.network == network and view.maps}
    view = known.get(layer) if layer else next(iter(known.values()), None)
    if not known:
        raise ConfigError(f"{'' if generator is run else f'{run}: '}the {network} has no attention maps")
    if view is None:
        raise ConfigError(f"layer {layer}: the {network} has attention maps of {', '.join(known)}")
    title = f"step {generator.origin.step}: {network} {view.layer}" if generator.origin else network
    return next(iter(layer_pictures(view, view_queries(view), title=title).values()))
