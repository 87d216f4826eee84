"""Exported weights with their card, pushed to the Hugging Face Hub."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from sagan.config import ConfigError, UserError
from sagan.runs.hub_download import GENERATOR, PREFIX, Address, first_line, parsed
from sagan.runtime.extras import require_extra
from sagan.sharing.card import write_card
from sagan.sharing.weights import checkpoint_of, export


def push(
    run: str | Path,
    repository: str,
    checkpoint: str | None = None,
    *,
    licence: str | None = None,
    private: bool = False,
) -> str:
    """Upload the weights of G and D with their card in one commit, and return the pinned address.

    A missing repository is created. Raise ConfigError if the name is malformed, and UserError if the run cannot be
    read, the package is missing, or the Hub refuses.
    """
    place = parsed(f"{PREFIX}{repository}")
    if place.revision or place.digest:
        raise ConfigError(f"{repository}: expected user/name: a push makes a new revision of the default branch")
    require_extra("hub", ("huggingface_hub",), f"push {repository}")
    from huggingface_hub import HfApi, errors
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except errors.HFValidationError as error:
        raise ConfigError(f"{repository}: {first_line(error)}") from None
    file = checkpoint_of(run, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        generator, _ = export(file, Path(folder))
        write_card(file, Path(folder), licence=licence, address=str(place))
        digest = hashlib.sha256(generator.read_bytes()).hexdigest()
        message = f"{GENERATOR} with SHA-256 {digest}"
        try:
            api: Any = HfApi()
            api.create_repo(place.repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=place.repository, folder_path=folder, commit_message=message)
        except Exception as error:  # the library's own, and whatever its HTTP client raises without a network
            login = "`hf auth login` stores the token of an account that may write there"
            raise UserError(f"{repository}: cannot be pushed: {first_line(error)}; {login}") from error
    return str(Address(place.repository, commit.oid, digest))
