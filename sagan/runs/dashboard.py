"""What TensorBoard shows of a run in addition to its curves: tag descriptions, joint charts, the configuration."""

from collections.abc import Iterator
from typing import Any

DESCRIPTIONS = {
    "loss/discriminator": "Loss of the discriminator in its last update of the step.",
    "loss/generator": "Loss of the generator.",
    "logits/real": "Mean output of the discriminator for real images.",
    "logits/fake": "Mean output of the discriminator for generated images.",
    "accuracy/real": "Share of real images that the discriminator takes for real.",
    "accuracy/fake": "Share of generated images that the discriminator takes for generated.",
    "spread/": "Mean standard deviation of a pixel over the images that a process sees at once. It becomes small if "
    "the generator collapses.",
    "gradient/": "L2 norm of the gradient of the network's last update.",
    "attention/gamma/": "Gain of an attention layer. At 0 the layer is the identity.",
    "attention/entropy/": "Entropy of the attention of generated images: 1 is uniform, 0 is a single key.",
    "lr/": "Learning rate.",
    "speed/": "Training images per second, not counting time spent on samples, checkpoints and evaluations.",
    "memory/": "Peak memory so far, in GiB: of tensors on a GPU, of the whole process on a CPU.",
    "singular_value/": "Estimated largest singular values of the weights under spectral norm, before the division: the "
    "largest and the median of a network. The text page has all of them.",
    "evaluation/": "Score of the generated images; metrics.jsonl has its protocol.",
    "samples/real": "Real images, one class per row.",
    "samples/": "Images generated from fixed latent vectors, one class per row and one latent vector per column.",
    "views/": "Where a layer attends, for three points on each image. The Attention tab has all points and heads.",
}
CHARTS = {
    "Training": {
        "Losses": ["loss/discriminator", "loss/generator"],
        "Logits, real and generated": ["logits/real", "logits/fake"],
        "Accuracy of the discriminator": ["accuracy/real", "accuracy/fake"],
        "Spread of a pixel, real and generated": ["spread/real", "spread/fake"],
        "Gradient norms": ["gradient/discriminator", "gradient/generator"],
    },
    "Attention": {"Gain": ["attention/gamma/.*"], "Entropy": ["attention/entropy/.*"]},
    "Spectral norm": {"Singular values": ["singular_value/.*"]},
}
HYPERPARAMETERS = ("model", "optimizer", "training", "data")  # the sections of a configuration that decide the result


def description(tag: str) -> str:
    """Return the description of a tag, by its longest known prefix; empty if there is none."""
    known = [start for start in DESCRIPTIONS if tag.startswith(start)]
    return DESCRIPTIONS[max(known, key=len)] if known else ""


def summaries_of(configuration: dict[str, Any], text: str, metrics: list[str]) -> Iterator[Any]:
    """Yield what a new run tells TensorBoard once: charts, and the configuration as text and as hyperparameters.

    `metrics` are the tags of the scores by which TensorBoard's HParams page compares runs.
    """
    from torch.utils.tensorboard import summary  # slow to import

    yield summary.custom_scalars(
        {title: {name: ["Multiline", tags] for name, tags in charts.items()} for title, charts in CHARTS.items()}
    )
    yield summary.text("configuration", f"```yaml\n{text}\n```")
    decisive = {name: value for name, value in configuration.items() if name in HYPERPARAMETERS}
    experiment, start, _ = summary.hparams(dict(named_options(decisive)), dict.fromkeys(metrics, 0))
    yield from (experiment, start)


def named_options(configuration: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | str | float]]:
    """Yield the options of a nested configuration by their full names. Lists and mappings become text."""
    for name, value in configuration.items():
        if isinstance(value, dict) and value:
            yield from named_options(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value if isinstance(value, (bool, int, float, str)) else str(value)


def table(values: dict[str, float]) -> str:
    """Return numbers by tag as a table in Markdown, the largest first, without the group that starts each tag."""
    rows = sorted(((tag.partition("/")[2], value) for tag, value in values.items()), key=lambda row: -row[1])
    return "\n".join(["| weight | value |", "|---|---:|", *(f"| {name} | {value:.4g} |" for name, value in rows)])
