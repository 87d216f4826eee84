"""A model card: what exported weights are, how they scored, and how to load them."""

import json
from pathlib import Path
from typing import Any

import yaml

from sagan import sampling
from sagan.config import AttentionConfig, UserError
from sagan.evaluation import Scores
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.models.origin import Origin, origin_of
from sagan.runs.checkpoints import run_of
from sagan.runs.networks import built_generator, load_discriminator
from sagan.runs.records import read_records
from sagan.runs.saved_networks import saved_generator
from sagan.runtime.captions import Captions
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import save_picture
from sagan.runtime.wording import counted, printable
from sagan.version import __version__

NAMES_SHOWN = 20
USE = """\
```python
from sagan import load_generator  # https://arxiv.org/abs/1805.08318 in PyTorch; the distribution is sagan-pytorch

generator = load_generator("{address}")
images = generator.sample(20, seed=0)  # uint8 (20, {channels}, {height}, {width})
```

From a shell: `sagan sample {address}`. The files are safetensors; the configuration is in their metadata."""


def refuse_foreign_card(out: Path) -> None:
    """Raise UserError if a folder has a README.md or samples.png that does not belong to a card of this program."""
    card = out / "README.md"
    ours = is_card(card)
    for file in (card, out / "samples.png"):
        if file.exists() and not ours:
            raise UserError(f"--out {out}: {file.name} there is not a model card's, and would be replaced")


def is_card(file: Path) -> bool:
    """Return whether a file is a model card of this program."""
    return file.is_file() and "library_name: sagan" in file.read_text("utf-8", errors="replace")


def write_card(
    run: str | Path, out: Path, checkpoint: str | None = None, *, licence: str | None = None, address: str | None = None
) -> list[Path]:
    """Write README.md and samples.png to describe the weights that `export` writes. Return the files.

    `licence` is an identifier such as mit; `address` is where the weights can be loaded from. Raise UserError if the
    run cannot be read or a file cannot be written.
    """
    saved = saved_generator(run, checkpoint)
    generator = built_generator(saved, "cpu")
    picture, card = out / "samples.png", out / "README.md"
    classes = list(range(min(generator.num_classes, sampling.ROWS)))
    num = sampling.COLUMNS * (len(classes) or sampling.ROWS)
    images, _ = sampling.generate(generator, num, classes, sampling.Draw())
    titles = sampling.class_titles(generator)
    captions = Captions([titles[c] for c in classes]) if classes else None
    save_picture(sampling.by_class(images, len(classes)), picture, captions)
    rows = facts(generator, load_discriminator(run, checkpoint=checkpoint), saved.data.get("images"), licence)
    text = card_text(generator, rows, run_of(run, checkpoint), licence, address or "generator.safetensors")
    write_atomically(card, lambda file: file.write(text.encode()))
    return [card, picture]


def card_text(
    generator: Generator, rows: dict[str, str], directory: Path | None, licence: str | None, address: str
) -> str:
    """Return the card as Markdown, with the `facts` in a table and the scores that are recorded in a run directory."""
    origin = origin_of(generator)
    front: dict[str, Any] = {"library_name": "sagan", "pipeline_tag": "unconditional-image-generation"}
    front |= {
        "tags": ["gan", "sagan", "self-attention", "image-generation"],
        **({"license": licence} if licence else {}),
    }
    height, width = generator.size
    use = USE.format(address=address, channels=generator.image_channels, height=height, width=width)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# A Self-Attention GAN for images of {height}x{width}",
        "![Samples](samples.png)",
        f"*{'A class per row' if generator.num_classes else 'Samples'}, seed 0.*",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]),
        "## Scores",
        scores_text(directory, origin),
        "## Use",
        use,
    ]
    return "\n\n".join(parts) + "\n"


def facts(
    generator: Generator, discriminator: Discriminator, images: int | None, licence: str | None
) -> dict[str, str]:
    """Return the known facts about the weights, by name."""
    origin = origin_of(generator)
    config, names = origin.config, origin.class_names
    data = [config.data.source, *([counted(images, "image")] if images else [])]
    data.append(counted(generator.num_classes, "class", "classes") if generator.num_classes else "no classes")
    shown = ", ".join(map(as_code, (names or ())[:NAMES_SHOWN]))
    more = ", ..." if len(names or ()) > NAMES_SHOWN else ""
    counts = {name: sum(p.numel() for p in n.parameters()) for name, n in (("G", generator), ("D", discriminator))}
    model = config.model
    return {
        "data": ", ".join(data),
        **({"classes": f"{shown}{more}"} if shown else {}),
        "training": f"{counted(origin.step, 'step')} of {counted(config.training.batch_size, 'image')}",
        "weights of G": "moving average" if origin.averaged else "as trained",
        "attention in G": attention_words(model.generator.attention),
        "attention in D": attention_words(model.discriminator.attention),
        "parameters": ", ".join(f"{count:,} in {name}" for name, count in counts.items()),
        "licence": licence or "not stated",
        "program": f"sagan-pytorch {__version__}",
    }


def as_code(name: str) -> str:
    """Return a class name for a table of Markdown, in which nothing of it is a link, a tag or a cell."""
    return f"`{printable(name, keep='').replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def attention_words(spec: AttentionConfig) -> str:
    """Return the kind of an attention and its resolutions, as text."""
    return spec.kind if spec.kind == "none" else f"{spec.kind} at {', '.join(map(str, spec.resolutions))}"


def scores_text(directory: Path | None, origin: Origin) -> str:
    """Return the newest scores of a run's weights with each extractor, split and truncation, and their protocol.

    Scores of the same step with other weights, or without an attention layer, are left out.
    """
    found: dict[str, Scores] = {}
    for record in read_records(directory / "metrics.jsonl") if directory else []:
        evaluation = record.get("evaluation")
        protocol = evaluation.get("protocol") if isinstance(evaluation, dict) else None
        if record["step"] != origin.step or not isinstance(protocol, dict) or "ablated" in protocol:
            continue
        if protocol.get("ema", origin.averaged) == origin.averaged:
            numbers = {k: v for k, v in record.items() if k != "step" and type(v) in (int, float)}
            kind = json.dumps([protocol.get(name) for name in ("extractor", "split", "truncation")])
            found[kind] = Scores(numbers, protocol)
    if not found:
        return f"None were recorded at step {origin.step}."
    reports = "\n\n".join(f"```\n{printable(scores.report())}\n```" for scores in found.values())
    return f"{reports}\n\nScores are comparable only with scores by the same protocol."
