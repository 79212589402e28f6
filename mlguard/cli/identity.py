"""`mlguard identity`: a key pair that opens issued bundles and keystore slots."""

from pathlib import Path
from typing import Annotated

import typer

from keystore import Identity, TokenIdentity, TokenUri
from mlguard.cli.answers import Json, answer
from mlguard.cli.openers import pin_of, read_identity
from mlguard.cli.panels import Commands
from mlguard.cli.printable import tell
from mlguard.cli.process import hide_memory
from mlguard.cli.unlock_options import PinFd, PinFile

identity_app = Commands(
    no_args_is_help=True, help="Identities: your own key pair, in a file or on a token."
)
File = Annotated[Path | None, typer.Argument(help="The identity file.", metavar="FILE")]
TokenKey = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="URI",
        help="Instead of a file: a key pair on a PKCS#11 token, which never leaves it.",
    ),
]


@identity_app.command(examples=("mlguard identity new me.identity > me.pub",))
def new(
    file: File = None,
    token: TokenKey = None,
    pq: Annotated[
        bool,
        typer.Option(
            "--pq", help="Make a hybrid key pair, meant to resist quantum computers."
        ),
    ] = False,
    pin_file: PinFile = None,
    pin_fd: PinFd = None,
    json: Json = False,
) -> None:
    """Make an identity, and print its recipient, the line to give to others.

    Keep FILE to yourself: anybody who has it can open what was made for its recipient.
        The recipient is not a secret.
    """
    _check_one(file, token)
    hide_memory()
    if token is not None:
        if pq:
            raise typer.BadParameter("--pq needs a file: tokens only support P-256")
        on_token = _on_token(token, pin_file, pin_fd)
        made = on_token.make_key()
        where = "never leaves the token" if made else "already exists"
        tell(f"mlguard: {on_token} {where}")
        _print(on_token, as_json=json)
    elif file is not None:
        identity = Identity.generate(pq=pq)
        identity.write(file)
        tell(f"mlguard: made {file}; it never leaves this machine")
        _print(identity, as_json=json)


@identity_app.command(examples=("mlguard identity show me.identity",))
def show(
    file: File = None,
    token: TokenKey = None,
    pin_file: PinFile = None,
    pin_fd: PinFd = None,
    json: Json = False,
) -> None:
    """Print the recipient of an identity."""
    _check_one(file, token)
    if token is not None:
        _print(_on_token(token, pin_file, pin_fd), as_json=json)
    elif file is not None:
        _print(read_identity(file, "its recipient"), as_json=json)


def _check_one(file: Path | None, token: str | None) -> None:
    if (file is None) == (token is None):
        raise typer.BadParameter("give either a FILE or --token URI")


def _on_token(uri: str, pin_file: Path | None, pin_fd: int | None) -> TokenIdentity:
    parsed = TokenUri.parse(uri, private=True)
    return TokenIdentity(parsed, pin_of(parsed, pin_file, pin_fd))


def _print(identity: Identity | TokenIdentity, *, as_json: bool) -> None:
    value = {"id": identity.id, "recipient": identity.recipient}
    answer(value, identity.recipient, as_json=as_json)
