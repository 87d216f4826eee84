"""`sagan push`: upload a run's weights to the Hugging Face Hub."""

from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Parameter

from sagan.commands.options import Checkpoint, Flat, Licence, Trained, TrustModule

Repository = Annotated[str, Parameter(help="user/name on the Hub; it is created if it is missing")]


@dataclass(frozen=True)
class Options:
    """Which weights to upload, and what to say about them."""

    checkpoint: Checkpoint = None
    licence: Licence = None
    private: bool = False
    """Create a repository that only you can read."""
    trust_module: TrustModule = field(default_factory=list)


def push(run: Trained, repository: Repository, /, *, options: Flat[Options] = Options()) -> None:
    """Upload a run's weights and a model card to the Hugging Face Hub, and print the address to load them from.

    The address names the commit and the SHA-256 of the weights, so it always means the same weights. Nothing else of
    the run is uploaded. The account is that of `hf auth login`. This needs pip install '.[hub]'.

    examples:
      sagan push runs/quickstart user/name --licence mit
      sagan sample hf://user/name                      # on any machine
    """
    from sagan.runs.networks import trust
    from sagan.sharing.hub_upload import push as upload

    trust(options.trust_module)
    print(upload(run, repository, options.checkpoint, licence=options.licence, private=options.private))
