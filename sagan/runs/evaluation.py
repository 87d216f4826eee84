"""The evaluation of a finished or interrupted run, from its files, and its record."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sagan.attention import ablate_layers
from sagan.config import FROM_PYTHON, ConfigError, DataConfig, EvaluationConfig, Setting, UserError, updated
from sagan.data import Dataset, find_data, in_memory, may_download
from sagan.data.given import GIVE_AGAIN, wrap_dataset
from sagan.evaluation import Scores, build_extractor, require_room
from sagan.evaluation.evaluate import evaluate
from sagan.evaluation.extractors import VERIFIED
from sagan.models.generator import Generator
from sagan.models.image_sampler import image_sampler, take_statistics
from sagan.models.origin import origin_of
from sagan.runs.checkpoints import run_of
from sagan.runs.networks import built_generator, require_trusted_source
from sagan.runs.records import append_evaluation
from sagan.runs.saved_networks import Saved, saved_generator
from sagan.runtime.device import choose_device
from sagan.runtime.distributed import is_main, main_first, meet, process_group, require_agreement, run_on_main
from sagan.runtime.wording import counted


def evaluate_run(
    run: str | Path,
    protocol: Sequence[Setting] = (),
    data: Sequence[Setting] = (),
    *,
    checkpoint: str | None = None,
    split: str = "train",
    device: str = "auto",
    dataset: Any = None,
    ablate_layer: str | None = None,
) -> Scores | None:
    """Return the scores of a run's generator, and add them to the metrics.jsonl of the run that the checkpoint is in.

    `run` and `checkpoint` are as in `load_generator`. `protocol` and `data` change the run's own evaluation and data.
    `dataset`, if given, takes the place of the data; a run that was trained on a data set from Python is measured only
    against that one. Data are downloaded only to where `data` says. `ablate_layer` scores the generator without the
    attention layer of that name, or without all.

    Call it in all processes of a group. The main one reads the run, so only its machine needs the files, and alone
    gets the scores; the others return None.

    Raise ConfigError or UserError, before anything is generated, if an option, a file or a download is missing.
    """
    place = choose_device(device)
    with process_group(place):
        averaged = updated(EvaluationConfig(), protocol).ema if any(s.key == "ema" for s in protocol) else None
        saved, home = run_on_main(  # both at once, before a run in progress deletes the checkpoint
            lambda: (saved_generator(run, checkpoint, averaged), run_of(run, checkpoint))
        )
        trained = saved.origin.config
        config = chosen_protocol(run, trained.evaluation, protocol)
        images = chosen_images(run, trained.data, data, dataset is not None)
        generator = built_generator(saved, place)
        require_same_images(images, generator)
        ablated = {}
        if ablate_layer:
            ablated["ablated"] = ", ".join(ablate_layers(generator, ablate_layer, "--ablate_layer"))
        with main_first("loads the extractor"):  # one process of each machine downloads
            download = may_download(data, trained.data)
            real = find_data(images, split, download) if dataset is None else wrap_dataset(dataset, images)
            extractor = build_extractor(config.extractor, place)
        require_room(config, extractor)
        real, origin = read_real(run, saved, real, images.memory_gb, split), origin_of(generator)
        statistics = take_statistics(generator, config)
        scores = evaluate(
            image_sampler(generator, config.seed, config.truncation),
            num_classes=generator.num_classes,
            class_names=origin.class_names,
            real=real,
            extractor=extractor,
            config=config,
            split=split,
            protocol={"step": origin.step, "ema": origin.averaged, "batch_norm": statistics, **ablated},
        )
        if not is_main():
            return None
        return scores if home is None else recorded(scores, home, origin.step)


def chosen_protocol(run: str | Path, own: EvaluationConfig, settings: Sequence[Setting]) -> EvaluationConfig:
    """Return a run's own protocol, changed by settings.

    Raise ConfigError if an extractor whose weights cannot be verified is named by the run's file alone.
    """
    protocol = updated(own, settings)
    given = {setting.key for setting in settings}
    extractor = protocol.extractor
    for key, value in {"extractor.name": extractor.name, "extractor.weights": extractor.weights}.items():
        if extractor.name not in VERIFIED and value is not None and key not in given:
            raise ConfigError(f"{key} {value}: only {run} names it, and its weights are not verified; give it")
    return protocol


def chosen_images(run: str | Path, own: DataConfig, settings: Sequence[Setting], data_given: bool) -> DataConfig:
    """Return where the real images come from: a run's own data, changed by settings, or a data set from Python.

    Raise UntrustedCode if the run's file alone names code to read them with.
    """
    images = updated(own, settings)
    if data_given:
        classes = None if images.num_classes else 0  # it may have other classes than the run
        return replace(images, source=FROM_PYTHON, path=None, num_classes=classes)
    if not any(setting.key == "source" for setting in settings):
        require_trusted_source(own, run)
    return images


def read_real(run: str | Path, saved: Saved, real: Dataset, memory_gb: float, split: str) -> Dataset:
    """Return the real images, in memory if they fit into `memory_gb`.

    Raise ConfigError if they are not those of the run, or not the same in all processes.
    """
    if saved.data.get("identity") not in (None, real.identity):
        again = GIVE_AGAIN.format("evaluate(run")
        raise ConfigError(f"{run}: trained on a data set from Python, which is not this one; {again}")
    real = in_memory(real, memory_gb)
    meet("reads the images")
    require_agreement(
        {"images": len(real), "class_names": real.class_names, "labels": labels_digest(real), "split": split}
    )
    return real


def labels_digest(real: Dataset) -> str:
    """Return a digest of the labels, in order."""
    return hashlib.sha256(real.labels.numpy().tobytes()).hexdigest()[:12]


def require_same_images(data: DataConfig, generator: Generator) -> None:
    """Raise ConfigError if the real images differ from the generated ones in size or channels."""
    height, width = generator.size
    if data.size != (height, width):
        made = f"images of {height}x{width}"
        raise ConfigError(f"--data.resolution {data.resolution}: the generator makes {made}; sizes must match")
    if data.channels != generator.image_channels:
        made = f"images of {counted(generator.image_channels, 'channel')}"
        raise ConfigError(f"--data.channels {data.channels}: the generator makes {made}; channels must match")


def recorded(scores: Scores, directory: Path, step: int) -> Scores:
    """Add scores to the record of a run, and return them. If that is impossible, a warning in them says so."""
    try:
        append_evaluation(directory, {"step": step, **scores.record()}, by="sagan evaluate")
    except (OSError, UserError) as error:
        return replace(scores, warnings=[*scores.warnings, f"not recorded: {error}"])
    return scores
