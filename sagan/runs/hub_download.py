"""Exported weights on the Hugging Face Hub, by addresses such as hf://user/name@REVISION#SHA256.

A revision that is a branch, such as `main`, may move. A commit and a digest never change, so an address with both
always names the same weights. Downloads stay in the cache of the package `huggingface_hub`.
"""

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from sagan.config import ConfigError, UserError
from sagan.runtime.extras import require_extra

PREFIX = "hf://"
GENERATOR = "generator.safetensors"
PATTERN = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?:#([0-9a-f]{64}))?")
COMMIT = re.compile(r"[0-9a-f]{40}")


class Address(NamedTuple):
    """Where exported weights lie on the Hub."""

    repository: str
    revision: str | None
    digest: str | None
    """SHA-256 of generator.safetensors."""

    def __str__(self) -> str:
        revision, digest = f"@{self.revision}" if self.revision else "", f"#{self.digest}" if self.digest else ""
        return f"{PREFIX}{self.repository}{revision}{digest}"


def is_address(run: str | Path) -> bool:
    """Return whether a RUN is an address on the Hub."""
    return str(run).startswith(PREFIX)


def parsed(address: str) -> Address:
    """Return the parts of an address. Raise ConfigError if it is malformed."""
    found = PATTERN.fullmatch(address)
    if found is None:
        expected = f"expected {PREFIX}user/name, optionally followed by @REVISION and #SHA256 (64 hexadecimal digits)"
        raise ConfigError(f"{address}: {expected}")
    return Address(*found.groups())


def fetch(address: str, file: str = GENERATOR) -> Path:
    """Return the path of a file of exported weights, downloaded unless it is in the cache.

    If the address is not pinned, its pinned form is printed on stderr. If the repository has no such file, the path
    does not exist. Raise UserError, naming the address, if the download fails or the content has another digest.
    """
    parts = parsed(address)
    require_extra("hub", ("huggingface_hub",), address)
    from huggingface_hub import errors, hf_hub_download

    def download(name: str) -> Path:
        endpoint = os.environ.get("HF_ENDPOINT")  # the library reads it once, when it is imported
        return Path(hf_hub_download(parts.repository, name, revision=parts.revision, endpoint=endpoint))

    path: Path | None = None
    try:
        generator = download(GENERATOR)
        require_digest(address, parts, generator)
        if (path := generator.with_name(file)).exists():
            return path
        parts = parts._replace(revision=generator.parent.name)  # the commit of G, even if the branch has moved
        return download(file)
    except errors.LocalEntryNotFoundError as error:
        raise UserError(f"{address}: not in the cache, and the Hub cannot be reached: {first_line(error)}") from error
    except errors.EntryNotFoundError as error:
        if path is None:
            raise UserError(f"{address}: holds no {GENERATOR}") from error
        return path
    except UserError:
        raise
    except Exception as error:  # the library's own, and whatever its HTTP client raises for a broken connection
        raise UserError(f"{address}: cannot be downloaded: {first_line(error)}") from error


def require_digest(address: str, parts: Address, generator: Path) -> None:
    """Raise UserError unless G's file has the digest in the address and the one under which the Hub stores it."""
    with open(generator, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    stored = generator.resolve().name  # the cache names a large file by its SHA-256
    for expected in (parts.digest, stored if re.fullmatch(r"[0-9a-f]{64}", stored) else None):
        if expected not in (None, digest):
            raise UserError(f"{address}: the SHA-256 of {GENERATOR} is {digest}, expected {expected} ({generator})")
    if parts.digest is None or not COMMIT.fullmatch(parts.revision or ""):
        pinned = Address(parts.repository, generator.parent.name, digest)
        print(f"{address} resolved to {pinned}", file=sys.stderr)


def first_line(error: Exception) -> str:
    """Return the first line of an error, without its type if it says anything."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
