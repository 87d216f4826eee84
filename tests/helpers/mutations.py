"""Checkpoints and exports with one thing wrong, by the hundred: what somebody may send, or a disk may do to a file."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from sagan.config import Config
from sagan.config.reading import option_types

REMOVED = object()
WRONG: dict[str, Any] = {
    "removed": REMOVED,
    "null": None,
    "text": "x",
    "escape": "\x1b[31m\n",
    "negative": -5,
    "huge": 10**30,
    "nan": float("nan"),
    "true": True,
    "list": [],
    "nested": [[["x"]]],
    "mapping": {"x": 1},
}
WRONG_IN_OPTIONS = {key: WRONG[key] for key in ("removed", "null", "text", "negative", "huge", "nested", "mapping")}
WRONG_IN_OPTIONS |= {"zero": 0, "large": 10**6, "one-and-a-half": 1.5}
WRONG_TENSORS = {
    "removed": REMOVED,
    "null": None,
    "list": [1.0],
    "shape": torch.zeros(7),
    "integers": torch.zeros(3, dtype=torch.long),
    "complex": torch.zeros(3, dtype=torch.complex64),
    "sparse": torch.eye(3).to_sparse(),
    "no-numbers": torch.empty(10**12, device="meta"),
    "repeated": torch.zeros(1).expand(10**6, 10**6),
}


def replaced(content: Any, path: tuple, value: Any) -> Any:
    """Return a content with another value, or none, at a path of keys; the rest is shared."""
    if not path:
        return value
    key, *rest = path
    changed = copy.copy(content)
    if value is REMOVED and not rest:
        del changed[key]
    else:
        changed[key] = replaced(content[key] if rest else None, tuple(rest), value)
    return changed


def endless(depth: int = 60) -> Any:
    """Return a list whose every item is twice the same list, and so on: short to write, and never read to its end."""
    inside: Any = ["x"]
    for _ in range(depth):
        inside = [inside, inside]
    return inside


def paths_in(content: dict) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Yield what is worth replacing in a checkpoint, and by what."""
    for key in content:
        yield (key,), WRONG
    for section in ("data", "model", "training", "evaluation", "optimizer"):
        yield ("config", section), WRONG
    for option in option_types(Config):
        yield ("config", *option.split(".")), WRONG_IN_OPTIONS
    for key in content["data"]:
        yield ("data", key), WRONG
    for network in ("generator", "discriminator", "generator_ema"):
        names = list(content[network])
        for name in {names[0], names[len(names) // 2], names[-1]}:
            yield (network, name), WRONG_TENSORS
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for key in ("state", "param_groups"):
            yield (name, key), WRONG
        yield (name, "param_groups", 0), WRONG
        for key in ("lr", "betas", "eps", "params", "amsgrad"):
            yield (name, "param_groups", 0, key), WRONG
        for key in (0, 3):
            yield (name, "state", key), WRONG
        for key in ("step", "exp_avg", "exp_avg_sq"):
            yield (name, "state", 1, key), {**WRONG, **WRONG_TENSORS}


def mutated_contents(content: dict) -> Iterator[tuple[str, dict]]:
    """Yield the name of a mutation and the content of a checkpoint with it."""
    for path, wrong in paths_in(content):
        for word, value in wrong.items():
            yield f"{'.'.join(map(str, path))} {word}", replaced(content, path, value)
    for word, value in {"endless": endless(15), "deep": endless(), "long": "x" * 10**6, "keys": {(1, 2): 3}}.items():
        for path in (("extra",), ("config", "data"), ("data", "class_names"), ("generator", "extra")):
            yield f"{'.'.join(path)} {word}", replaced(content, path, value)
    for step in (-1, 10**13, 1.0, torch.tensor(2)):
        yield f"step {step!r}", replaced(content, ("step",), step)
    for names in (["a"], ["a", "b", 3], ["a", "b", "c", "d"]):
        yield f"class_names {names}", replaced(content, ("data", "class_names"), names)
    squares = content["generator_optimizer"]["state"][0]["exp_avg_sq"] - 1
    yield "negative squares", replaced(content, ("generator_optimizer", "state", 0, "exp_avg_sq"), squares)
    yield "another digest", {**content, "digest": "crc32:00000000"}
    yield "digest of another type", {**content, "digest": [1]}


def mutated_blobs(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a damage and the bytes of a file with it."""
    for percent in (0, 1, 10, 25, 50, 75, 90, 99):
        yield f"cut at {percent} %", blob[: len(blob) * percent // 100]
    for seed in range(60):
        random, changed = Random(seed), bytearray(blob)
        for _ in range(3):
            changed[random.randrange(len(blob))] ^= 1 << random.randrange(8)
        yield f"flipped bits {seed}", bytes(changed)
    for seed in range(10):
        random, changed = Random(seed), bytearray(blob)
        at = random.randrange(len(blob) - 512)
        changed[at : at + 512] = bytes(512)
        yield f"lost block {seed}", bytes(changed)
    yield "text", b"not a checkpoint\n" * 100
    yield "twice", blob + blob


def mutated_exports(file) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a mutation and the bytes of exported weights with it."""
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["sagan"])
        weights = {name: opened.get_tensor(name) for name in opened.keys()}
    for path in [(key,) for key in facts] + [("config", *option.split(".")) for option in option_types(Config)]:
        for word, value in (WRONG if len(path) == 1 else WRONG_IN_OPTIONS).items():
            metadata = {"sagan": json.dumps(replaced(facts, path, value))}
            yield f"{'.'.join(path)} {word}", save(weights, metadata)
    large = replaced(facts, ("config", "model", "generator", "channels"), 1500)
    yield "1,500 channels", save(weights, {"sagan": json.dumps(large)})
    name = next(iter(weights))
    for word, value in {"shape": torch.zeros(7), "integers": torch.zeros(3, dtype=torch.long)}.items():
        yield f"{name} {word}", save({**weights, name: value}, {"sagan": json.dumps(facts)})
    for text in ("", "[", "[" * 10**5, "null", "1e999", '{"config": 1' * 1000):
        yield f"metadata {text[:10]}", save(weights, {"sagan": text})
