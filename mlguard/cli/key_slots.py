"""`mlguard keys slots` and `passwd`: the slots that open the keystore."""

from pathlib import Path
from typing import Annotated

import typer

from keystore import Identity, Keystore, Recipient, Token, TokenIdentity
from keystore.slots import Opener
from mlguard.cli.answers import Json, answer
from mlguard.cli.openers import new_passphrase
from mlguard.cli.panels import Commands
from mlguard.cli.parties import Customer
from mlguard.cli.printable import tell, warn
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.cli.with_store import with_store

slots_app = Commands(no_args_is_help=True, help="Slots: the ways to open the keystore.")
NewIdentity = Annotated[
    Path | None,
    typer.Option("--new-identity", help="An identity file; made if it does not exist."),
]
NewPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--new-passphrase-file", help="Read it from a file instead of asking."
    ),
]
NewToken = Annotated[
    str | None,
    typer.Option(
        "--new-token",
        metavar="URI",
        help="A key on a token; made if it does not exist.",
    ),
]
NewRecipient = Annotated[
    str | None,
    typer.Option(
        "--recipient",
        metavar="LINE or FILE",
        help="The line that `mlguard identity new` printed for somebody.",
    ),
]
Label = Annotated[str, typer.Argument(help="The slot's label.")]
Labels = Annotated[list[str], typer.Argument(help="The labels of the slots.")]


@slots_app.command("list")
@with_store
def list_slots(store: Keystore, json: Json = False) -> None:
    """List the slots of the keystore."""
    _show_slots(store, as_json=json)


@slots_app.command(
    "add",
    examples=(
        "mlguard keys slots add maria --recipient maria.recipient",
        "mlguard keys slots add ci --new-identity ci.txt",
    ),
)
@unlocking
def add_slot(
    label: Label,
    recipient: NewRecipient = None,
    new_identity: NewIdentity = None,
    new_passphrase_file: NewPassphrase = None,
    new_token: NewToken = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Let another passphrase, identity or key on a token open the keystore."""
    with unlock.open() as store:
        opener: Opener | Recipient
        if recipient is not None:
            opener = Recipient.parse(Customer.read(recipient).recipient)
        elif new_token is not None:
            opener = token_at(unlock, new_token)
        elif new_identity is not None:
            opener = identity_at(new_identity)
        else:
            opener = new_passphrase(store.location, new_passphrase_file)
        store.add_slot(opener, label=label)
        _show_slots(store, as_json=json)


@slots_app.command("remove", examples=("mlguard keys slots remove maria",))
@with_store
def remove_slot(store: Keystore, labels: Labels, json: Json = False) -> None:
    """Stop passphrases, identities or tokens from opening the keystore.

    An old copy of the keystore does not help to open the new one. But somebody who
    opened it before may have kept the keys in it: rotate them too.
    """
    store.remove_slot(*labels)
    _show_slots(store, as_json=json)


@slots_app.command("renew")
@with_store
def renew_slot(store: Keystore, json: Json = False) -> None:
    """Give the slot that opened the keystore its own keys.

    Each owner of a slot from a keystore of format 1 needs this once; every other
    command that writes does it as well.
    """
    store.renew_slot()
    _show_slots(store, as_json=json)


@with_store
def passwd(
    store: Keystore,
    label: Annotated[
        str | None,
        typer.Option(help="The slot; default: the one that you open it with."),
    ] = None,
    new_passphrase_file: NewPassphrase = None,
    json: Json = False,
) -> None:
    """Change the passphrase of a slot.

    The old one cannot open the keystore from now on, not even with an old copy.
    """
    new = new_passphrase(store.location, new_passphrase_file)
    store.replace_slot(new, label=label)
    _show_slots(store, as_json=json)


def identity_at(path: Path) -> Identity:
    """Read an identity file, or make it if it does not exist."""
    if path.is_symlink() or path.exists():
        return Identity.read(path, say=warn)
    identity = Identity.generate(pq=True)
    identity.write(path)
    tell(f"mlguard: made {path}: anybody who has this file can open the keystore")
    return identity


def token_at(unlock: Unlock, uri: str) -> Token | TokenIdentity:
    """Return a key on a token, made if it does not exist."""
    token = unlock.key_on_token(uri)
    if token.make_key():
        tell(f"mlguard: made {token}, which never leaves the token")
    return token


def _show_slots(store: Keystore, *, as_json: bool) -> None:
    value = [
        slot.lock.fields()
        | {"label": slot.label, "id": slot.id, "kind": slot.kind}
        | {"created": slot.created, "unrenewed": slot.keys is None or slot.unrenewed}
        for slot in store.slots()
    ]
    lines = [
        f"{slot.label:16}  {slot.kind:10}  {slot.created}  {slot.id}"
        for slot in store.slots()
    ]
    answer({"slots": value}, "\n".join(lines), as_json=as_json)
