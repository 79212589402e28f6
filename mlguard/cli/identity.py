"""`mlguard identity`: a key pair that opens issued bundles and keystore slots."""

from pathlib import Path
from typing import Annotated

import typer

from keystore import Identity
from mlguard.cli.no_dumps import forbid_core_dumps
from mlguard.cli.printable import tell
from mlguard.cli.unlock import read_identity
from mlguard.cli.with_store import Json, answer

identity_app = typer.Typer(
    no_args_is_help=True, help="Identities: a key pair of your own, in a file."
)
File = Annotated[Path, typer.Argument(help="The identity file.", metavar="FILE")]


@identity_app.command()
def new(
    file: File,
    pq: Annotated[
        bool,
        typer.Option(
            "--pq", help="A hybrid key pair that a quantum computer does not open."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Make an identity, and print its recipient: the line to give to others.

    FILE stays with you, readable by you alone: whoever has it opens what was made for
    its recipient. The recipient is no secret.
    """
    forbid_core_dumps()
    identity = Identity.generate(pq=pq)
    identity.write(file)
    tell(f"mlguard: made {file}; it never leaves this machine")
    _print(identity, as_json=json)


@identity_app.command()
def show(file: File, json: Json = False) -> None:
    """Print the recipient of an identity file."""
    _print(read_identity(file, "its recipient"), as_json=json)


def _print(identity: Identity, *, as_json: bool) -> None:
    value = {"id": identity.id, "recipient": identity.recipient}
    answer(value, identity.recipient, as_json=as_json)
