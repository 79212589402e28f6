"""`mlguard verify`: check the signature of a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.cli.answers import Json, answer
from mlguard.cli.trust import Trusted, trusted_signers
from mlguard.errors import SignatureNotTrusted
from mlguard.issuing import verify_bundle


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.mlgb.")],
    signer: Trusted = None,
    json: Json = False,
) -> None:
    """Verify the signature of BUNDLE, over every byte, and print the signer."""
    signers = trusted_signers(signer)
    if not signers:
        raise SignatureNotTrusted(
            "no signer is trusted on this machine",
            hint="name one with --signer, or trust one with `mlguard signer trust "
            "FILE`",
        )
    found = glimpse_bundle(bundle)
    if not isinstance(found, Bundle2):
        raise SignatureNotTrusted(f"{bundle} is of format 1, which cannot be signed")
    statement = verify_bundle(found, signers)
    value = {"file": str(bundle), "signer": statement.signer.signer_id}
    text = f"{bundle}  signed by {statement.signer.shown}, unchanged since"
    answer(value, text, as_json=json)
