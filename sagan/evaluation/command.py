"""`sagan evaluate`: from a run or two folders to scores."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sagan.checkpoint import find_checkpoint, load_checkpoint
from sagan.config import Config, ConfigError, DataConfig, EvaluationConfig
from sagan.data import open_data
from sagan.device import choose_device
from sagan.distributed import is_main, process_group
from sagan.evaluation.evaluate import compare_folders, evaluate
from sagan.evaluation.extractors import build_extractor
from sagan.evaluation.scores import Scores
from sagan.generate import image_sampler, load_generator, set_standing_statistics
from sagan.parsing import to_config
from sagan.training.records import append_record


@dataclass(frozen=True)
class EvaluateOptions:
    """What is compared with what."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    split: str = "train"
    """Part of the data to compare with: train or test, where the source has both."""
    real: str | None = None
    """Folder of real images, instead of a run's data."""
    fake: str | None = None
    """Folder of generated images, instead of a run's."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU where there is one."""


def run_defaults(run: str, options: EvaluateOptions) -> dict[str, Any]:
    """The evaluation and data options of a run, as defaults for those of the command line."""
    config = _run_config(run, options)
    evaluation = {k: v for k, v in asdict(config.evaluation).items() if k != "every"}
    return {**evaluation, "data": asdict(config.data)}


def evaluate_run(run: str, options: EvaluateOptions, config: EvaluationConfig, data: DataConfig) -> Scores | None:
    """Scores of a run's generator; added to the run's metrics.jsonl. None in all processes but the main one.

    Raises ConfigError, UserError where an option, a file or a download is missing, before anything is generated.
    """
    if options.real or options.fake:
        raise ConfigError(f"--real and --fake compare two folders; they do not go with the run {run}")
    device = choose_device(options.device)
    with process_group(device):
        extractor = build_extractor(config.extractor, device)
        generator = load_generator(run, checkpoint=options.checkpoint, ema=config.ema, device=device)
        real = open_data(data, options.split)
        if config.standing_statistics:
            set_standing_statistics(generator, config.standing_statistics, config.batch_size, config.seed)
        standing = f"standing over {config.standing_statistics} batches" if config.standing_statistics else "running"
        facts = {"step": generator.step, "ema": generator.is_ema, "batch_norm": standing}
        scores = evaluate(
            image_sampler(generator, config.seed, config.truncation),
            num_classes=generator.num_classes,
            real=real,
            extractor=extractor,
            config=config,
            split=options.split,
            protocol=facts,
        )
        if not is_main():
            return None
        if Path(run).is_dir():
            append_record(Path(run), {"step": generator.step, **scores.record()})
        return scores


def evaluate_folders(options: EvaluateOptions, config: EvaluationConfig) -> Scores | None:
    """Scores of the folder `options.fake` against `options.real`. None in all processes but the main one."""
    if not (options.real and options.fake):
        raise ConfigError(f"expected a RUN, or both --real and --fake; given --real {options.real} --fake {options.fake}")
    device = choose_device(options.device)
    with process_group(device):
        extractor = build_extractor(config.extractor, device)
        scores = compare_folders(options.real, options.fake, extractor, config.batch_size)
        return scores if is_main() else None


def _run_config(run: str, options: EvaluateOptions) -> Config:
    if run.endswith(".safetensors"):
        return load_generator(run).config
    return to_config(load_checkpoint(find_checkpoint(run, options.checkpoint))["config"])
