"""What `sagan sample` makes: pictures, arrays, folders, videos and curves, as its options say."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sagan import sampling
from sagan.commands.sample import Options, default_out, form_of, nearest_source
from sagan.config import ConfigError, EvaluationConfig
from sagan.data import Dataset, open_data
from sagan.models.generator import Generator
from sagan.models.image_sampler import statistics_in_words
from sagan.models.origin import origin_of
from sagan.runtime.captions import Captions
from sagan.runtime.pictures import save_new_picture, save_picture
from sagan.runtime.wording import counted


def write(generator: Generator, options: Options, classes: list[int], run: str) -> str:
    """Write what the options ask for. Return a line that says where."""
    if options.video:
        return save_video(generator, options, classes if options.classes else classes[: sampling.ROWS], options.video)
    if options.truncation_curve:
        return save_curve(generator, options, options.truncation_curve, run)
    form = form_of(options.out) if options.out else "picture"
    if form == "picture":
        image, captions = picture(generator, options, classes if options.classes else classes[: sampling.ROWS])
        captions = captions if options.captions else None
        if options.out:
            save_picture(image, out := Path(options.out), captions)
        else:
            out = save_new_picture(image, default_out(run, generator, options), captions)
        return f"{out}{words_of_nearest(options) if options.nearest else ''}"
    out, num = Path(options.out or ""), number_of_images(options, classes)
    if form == "arrays":
        sampling.save_npz(*sampling.generate(generator, num, classes, drawn(options)), out)
    else:
        names = sampling.file_names(num, classes, sampling.folder_names(sampling.class_names(generator)))
        sampling.refuse_strangers(out, names)
        if (out / names[0]).exists():  # most folders are found out by their first image, before the others are made
            sampling.refuse_replacement(sampling.generate(generator, 1, classes, drawn(options))[0], names, out)
        images, _ = sampling.generate(generator, num, classes, drawn(options))
        sampling.save_folder(images, names, out)
    return str(out)


def save_video(generator: Generator, options: Options, classes: list[int], file: str) -> str:
    """Write the video of `--video` and return its name."""
    from sagan.sampling import video

    between = options.num or video.RATE
    number = video.number_of_frames(classes, between)
    frames = video.loop_frames(generator, classes, between, drawn(options))
    video.save_video(iter(sampling.progress(frames, "frames", number)), Path(file))
    return file


def save_curve(generator: Generator, options: Options, name: str, run: str) -> str:
    """Write the plot and the table of `--truncation_curve`; return their names, the table, and notes on the scores."""
    from sagan.evaluation import build_extractor
    from sagan.sampling import truncation

    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    real, num = real_images(generator, name), options.num or truncation.NUM
    if min(num, len(real)) < truncation.FEWEST:
        found = f"{counted(num, 'generated image')} and {counted(len(real), 'real one')}"
        raise ConfigError(f"--truncation_curve {name}: {found}, at least {truncation.FEWEST} of each needed")
    origin = origin_of(generator)
    out = Path(options.out or default_out(run, generator, options))
    settings = {"num_samples": num, "num_real": min(num, len(real)), "seed": options.seed}
    protocol = replace(EvaluationConfig(), extractor=options.extractor, batch_size=options.batch_size, **settings)
    statistics = statistics_in_words(options.standing_statistics, options.batch_size)
    rows, last = truncation.truncation_curve(generator, real, extractor, protocol, statistics)
    title = f"step {origin.step}, {num} images against {name}"
    written = truncation.save_curve(rows, out, extractor.name, title, overwrite=options.out is not None)
    return "\n".join([*map(str, written), truncation.as_table(rows), *last.notes()])


def real_images(generator: Generator, name: str) -> Dataset:
    """Open the data that an option names, as the generator's own are read. Raise ConfigError or UserError."""
    like = sampling.data_like(origin_of(generator).config.data, *nearest_source(name))
    return open_data(like, download=like.path is None)  # a path here comes from the generator's file


def picture(generator: Generator, options: Options, classes: list[int]) -> tuple[Tensor, Captions | None]:
    """Return the picture that the options ask for, and the captions in its margins or None."""
    titles = sampling.class_titles(generator)
    rows = [titles[c] for c in classes]
    if options.nearest:
        return nearest_images(generator, options, options.nearest, classes, rows)
    if options.interpolate:
        image = interpolated(generator, options, classes)
        captions = Captions(rows[:-1], rows[1:]) if options.interpolate == "classes" else Captions(rows)
    else:
        num = number_of_images(options, classes)
        images, _ = sampling.generate(generator, num, classes, drawn(options))
        image, captions = sampling.by_class(images, len(classes)), Captions(rows[:num])
    return image, captions if rows else None


def words_of_nearest(options: Options) -> str:
    """Return the description of the columns in the picture of `--nearest`."""
    by = f"by pixels (middle) and by features of {options.extractor.name} (right)"
    return f": samples (left), and their {sampling.NEIGHBOURS} nearest training images {by}"


def number_of_images(options: Options, classes: list[int]) -> int:
    """Return `--num`, or ten of each class."""
    return options.num or sampling.COLUMNS * (len(classes) or sampling.ROWS)


def drawn(options: Options) -> sampling.Draw:
    """Return the latent vectors that the options ask for."""
    return sampling.Draw(options.seed, options.truncation, options.batch_size)


def interpolated(generator: Generator, options: Options, classes: list[int]) -> Tensor:
    """Return the picture of `--interpolate`. Raise ConfigError if there are fewer than two classes to go between."""
    if options.interpolate == "classes" and len(classes) < 2:
        found = counted(len(classes), "class", "classes")
        raise ConfigError(f"--interpolate classes: the generator has {found}, at least 2 needed")
    between = sampling.between_classes if options.interpolate == "classes" else sampling.between_latents
    return between(generator, classes, options.num or sampling.COLUMNS, drawn(options))


def nearest_images(
    generator: Generator, options: Options, name: str, classes: list[int], titles: list[str]
) -> tuple[Tensor, Captions]:
    """Return the picture of `--nearest` and its captions; `titles` are the titles of the classes."""
    from sagan.evaluation import build_extractor

    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    data = real_images(generator, name)
    num = options.num or sampling.ROWS
    images, _ = sampling.generate(generator, num, classes, drawn(options))
    image = sampling.beside_nearest(images, data, lambda x: extractor(x)[0], options.batch_size)
    rows, found = [titles[i % len(titles)] for i in range(num)] if titles else [], min(sampling.NEIGHBOURS, len(data))
    return image, sampling.captions_of_nearest(rows, images.shape[-1], found, options.extractor.name)
