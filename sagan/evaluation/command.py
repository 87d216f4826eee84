"""`sagan evaluate`: from a run or two folders to scores."""

from pathlib import Path

from sagan.config import ConfigError, DataConfig, EvaluationConfig, UserError
from sagan.data import find_data, in_memory
from sagan.evaluation.evaluate import compare_folders, evaluate
from sagan.evaluation.extractors import build_extractor
from sagan.evaluation.scores import Scores
from sagan.models.generator import Generator
from sagan.models.sampling import image_sampler, take_statistics
from sagan.option_parser import Setting
from sagan.options import EvaluateOptions
from sagan.parsing import flatten
from sagan.runs.directory import run_directory
from sagan.runs.networks import load_generator, load_run_config
from sagan.runs.records import append_record
from sagan.runtime.device import choose_device
from sagan.runtime.distributed import is_main, main_first, process_group


def run_settings(run: str, options: EvaluateOptions) -> list[Setting]:
    """The evaluation and data options of a run, for those of the command line to override."""
    config = load_run_config(run, options.checkpoint)
    evaluation = [(key, value) for key, value in flatten(config.evaluation) if key != "every"]
    return [Setting(key, value, f"{run}: ") for key, value in [*evaluation, *flatten(config.data, "data.")]]


def evaluate_run(run: str, options: EvaluateOptions, config: EvaluationConfig, data: DataConfig) -> Scores | None:
    """Scores of a run's generator; added to the run's metrics.jsonl. None in all processes but the main one.

    Raises ConfigError, UserError where an option, a file or a download is missing, before anything is generated.
    """
    device = choose_device(options.device)
    with process_group(device):
        generator = load_generator(run, checkpoint=options.checkpoint, ema=config.ema, device=device)
        require_same_images(data, generator)
        with main_first():  # one process downloads
            real = find_data(data, options.split)
            extractor = build_extractor(config.extractor, device)
        real = in_memory(real, data.memory_gb)
        statistics = take_statistics(generator, config)
        scores = evaluate(
            image_sampler(generator, config.seed, config.truncation),
            num_classes=generator.num_classes,
            real=real,
            extractor=extractor,
            config=config,
            split=options.split,
            protocol={"step": generator.origin.step, "ema": generator.origin.averaged, "batch_norm": statistics},
        )
        if not is_main():
            return None
        if directory := run_directory(run):
            add_record(scores, directory, generator.origin.step)
        return scores


def evaluate_folders(options: EvaluateOptions, config: EvaluationConfig) -> Scores | None:
    """Scores of the folder `options.fake` against `options.real`. None in all processes but the main one."""
    device = choose_device(options.device)
    with process_group(device):
        with main_first():  # one process downloads
            extractor = build_extractor(config.extractor, device)
        scores = compare_folders(options.real, options.fake, extractor, config.batch_size)
        return scores if is_main() else None


def require_same_images(data: DataConfig, generator: Generator) -> None:
    """Raises ConfigError where the real images would differ in kind from the generated ones."""
    if data.size != tuple(generator.size):
        made = f"images of {generator.size[0]}x{generator.size[1]}"
        raise ConfigError(f"--data.resolution {data.resolution}: the generator makes {made}, and only equals compare")
    if data.channels != generator.image_channels:
        made = f"images of {generator.image_channels} channels"
        raise ConfigError(f"--data.channels {data.channels}: the generator makes {made}, and only equals compare")


def add_record(scores: Scores, directory: Path, step: int) -> None:
    """Adds the scores to the record of a run; where that is not possible, the scores say so."""
    try:
        append_record(directory, {"step": step, **scores.record()})
    except (OSError, UserError) as error:
        scores.warnings.append(f"not recorded: {error}")
