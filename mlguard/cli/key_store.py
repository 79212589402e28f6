"""`mlguard keys`: the keystore itself: slots, passphrase, backup, check and log."""

from pathlib import Path
from typing import Annotated

import typer

import keystore as keystores
from keystore import Identity, Keystore, Token
from keystore.slots import Opener
from mlguard.cli.unlock import Unlock, new_passphrase, pins, unlocking
from mlguard.cli.with_store import Json, answer, with_store

slots_app = typer.Typer(no_args_is_help=True, help="What opens the keystore.")
NewIdentity = Annotated[
    Path | None,
    typer.Option("--new-identity", help="An identity file; made if it is not there."),
]
NewPassphrase = Annotated[
    Path | None,
    typer.Option("--new-passphrase-file", help="Read it from a file, do not ask."),
]
NewToken = Annotated[
    str | None,
    typer.Option(
        "--new-token", metavar="URI", help="A key on a token; made if not there."
    ),
]
Label = Annotated[str, typer.Argument(help="The slot's label.")]


@slots_app.command("list")
@with_store
def list_slots(store: Keystore, json: Json = False) -> None:
    """List what opens the keystore."""
    _show_slots(store, as_json=json)


@slots_app.command("add")
@unlocking
def add_slot(
    label: Label,
    new_identity: NewIdentity = None,
    new_passphrase_file: NewPassphrase = None,
    new_token: NewToken = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Let one more passphrase, identity or key on a token open the keystore."""
    with unlock.open() as store:
        opener: Opener
        if new_token is not None:
            opener = token_at(unlock, new_token)
        elif new_identity is not None:
            opener = identity_at(new_identity)
        else:
            opener = new_passphrase(store.location, new_passphrase_file)
        store.add_slot(opener, label=label)
        _show_slots(store, as_json=json)


@slots_app.command("remove")
@with_store
def remove_slot(store: Keystore, label: Label, json: Json = False) -> None:
    """Stop a passphrase or identity from opening the keystore.

    Someone who opened it before may have kept the keys: rotate them too.
    """
    store.remove_slot(label)
    _show_slots(store, as_json=json)


@with_store
def passwd(
    store: Keystore,
    label: Annotated[
        str | None, typer.Option(help="Of which slot; the one you open it with.")
    ] = None,
    new_passphrase_file: NewPassphrase = None,
    json: Json = False,
) -> None:
    """Change the passphrase of a slot."""
    new = new_passphrase(store.location, new_passphrase_file)
    store.replace_slot(new, label=label)
    _show_slots(store, as_json=json)


@with_store
def backup(store: Keystore, file: Path, json: Json = False) -> None:
    """Copy the sealed keystore to FILE, and print its digest."""
    digest = keystores.backup(store, file)
    value = {"file": str(file), "sha256": digest, "generation": store.generation}
    answer(value, f"{file}  generation {store.generation}  {digest}", as_json=json)


@unlocking
def restore(
    file: Path,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Put a backup back after opening all of it; what was there is kept beside.

    Slots and versions are those of the backup: who was removed since opens it again.
    """
    opener, place = unlock.opener(str(file)), unlock.storage
    old, new = keystores.restore(place, file, opener, pins=pins())
    value = {"keystore": place.location, "restored": old, "generation": new}
    text = (
        f"{place.location}  restored from generation {old}, now generation {new}; "
        "slots and versions are those of the backup, see `mlguard keys slots list`"
    )
    answer(value, text, as_json=json)


@with_store
def check(store: Keystore, json: Json = False) -> None:
    """Read every entry and the whole log, and compare with what was seen before."""
    records = store.check()
    versions = sum(len(store.info(name).versions) for name in store.names())
    value = {
        "keystore": store.location,
        "store_id": store.store_id,
        "generation": store.generation,
        "keys": len(store.names()),
        "versions": versions,
        "slots": len(store.slots()),
        "log_records": len(records),
        "pinned": store.pinned,
    }
    words = "\n".join(f"{name:12} {found}" for name, found in value.items())
    advice = []
    if len(store.slots()) == 1:
        advice.append("only one slot: `mlguard keys slots add` a recovery identity")
    if not store.pinned:
        advice.append("not pinned here: an older copy put back would not be noticed")
    lines = "".join(f"\nadvice       {line}" for line in advice)
    answer(value | {"advice": advice}, words + lines, as_json=json)


@unlocking
def accept(
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Take the keystore as it is now, though it went back or was replaced."""
    with unlock.open(accept=True) as store:
        value = {"keystore": store.location, "generation": store.generation}
        text = f"{store.location}  accepted at generation {store.generation}"
        answer(value, text, as_json=json)


@with_store
def log(
    store: Keystore,
    verify: Annotated[
        bool, typer.Option("--verify", help="Print the verdict only.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the audit log. It is verified either way."""
    records = store.log()
    if verify:
        value: object = {"records": len(records), "intact": True}
        answer(value, f"{len(records)} records, intact", as_json=json)
        return
    lines = [
        f"{each.n:5}  {each.time}  {each.user}  {each.op}"
        + (f"  {each.key}" if each.key else "")
        + (f"@{each.version}" if each.version else "")
        for each in records
    ]
    value = {"records": [each.to_json() for each in records]}
    answer(value, "\n".join(lines), as_json=json)


def identity_at(path: Path) -> Identity:
    """Read an identity file, or make one where there is none."""
    if path.is_symlink() or path.exists():
        return Identity.read(path)
    identity = Identity.generate()
    identity.write(path)
    typer.echo(
        f"mlguard: made {path}: whoever has this file can open the keystore", err=True
    )
    return identity


def token_at(unlock: Unlock, uri: str) -> Token:
    """A key on a token; it is made if it is not there."""
    token = unlock.key_on_token(uri)
    if token.make_key():
        typer.echo(f"mlguard: made {token}, which never leaves the token", err=True)
    return token


def _show_slots(store: Keystore, *, as_json: bool) -> None:
    value = [
        slot.lock.fields()
        | {"label": slot.label, "id": slot.id, "kind": slot.kind}
        | {"created": slot.created}
        for slot in store.slots()
    ]
    lines = [
        f"{slot.label:16}  {slot.kind:10}  {slot.created}  {slot.id}"
        for slot in store.slots()
    ]
    answer({"slots": value}, "\n".join(lines), as_json=as_json)
