"""`mlguard keys`: the life of a key, from `new` to `destroy`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from keystore import Keystore, NotAllowed, read_private, write_private
from keystore.textform import KEY_1, from_text, to_text
from mlguard.cli.answers import Json, answer
from mlguard.cli.key_listing import Name, show_entry
from mlguard.cli.model_key import parse_key_name
from mlguard.cli.printable import warn
from mlguard.cli.with_store import with_store
from mlguard.keys import ModelKey

LEAST_DISTINCT_BYTES = (
    16  # distinct bytes of 32; a random key has fewer once in 10^16 keys
)
Versioned = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION]", help="Without @, the primary version."),
]
Force = Annotated[bool, typer.Option("--force", help="Do it anyway.")]


@with_store
def new(
    store: Keystore,
    name: Name,
    note: Annotated[str, typer.Option(help="A line about the key.")] = "",
    json: Json = False,
) -> None:
    """Draw a new model key. `mlguard keygen` also makes the keystore."""
    store.add(name, ModelKey.generate().reveal(), note=note)
    show_entry(store, name, as_json=json)


@with_store
def rotate(
    store: Keystore,
    name: Name,
    promote: Annotated[
        bool, typer.Option("--promote", help="Also make it the primary version.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw a new version of a key. Existing models keep their version."""
    version = store.add_version(name, ModelKey.generate().reveal())
    if promote:
        store.promote(name, version)
    show_entry(store, name, as_json=json)


@with_store
def promote(store: Keystore, key: Versioned, json: Json = False) -> None:
    """Make a version the primary one, used from now on."""
    name, version = _which(store, key)
    store.promote(name, version)
    show_entry(store, name, as_json=json)


@with_store
def disable(
    store: Keystore,
    key: Versioned,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Others may know the secret.")
    ] = False,
    json: Json = False,
) -> None:
    """Take a version out of use. It can be enabled again."""
    name, version = _which(store, key)
    store.disable(name, version, compromised=compromised)
    show_entry(store, name, as_json=json)


@with_store
def enable(
    store: Keystore, key: Versioned, force: Force = False, json: Json = False
) -> None:
    """Take a disabled version into use again."""
    name, version = _which(store, key)
    store.enable(name, version, force=force)
    show_entry(store, name, as_json=json)


@with_store
def destroy(
    store: Keystore,
    key: Versioned,
    force: Force = False,
    confirm: Annotated[
        str | None,
        typer.Option(help="The key's name, as a confirmation.", metavar="NAME"),
    ] = None,
    json: Json = False,
) -> None:
    """Erase the secret of a disabled version for ever.

    Models that need it are lost with it. This is refused while a run, checkpoint or
    bundle is registered for it, unless --force is given; the name must be typed in any
    case.
    """
    name, version = _which(store, key)
    _confirm(name, version, confirm)
    store.destroy(name, version, force=force)
    show_entry(store, name, as_json=json)


@with_store
def allow(
    store: Keystore,
    name: Name,
    export: Annotated[
        bool | None,
        typer.Option(
            "--export/--no-export", help="Allow or forbid the export of its secrets."
        ),
    ] = None,
    deletion: Annotated[
        bool | None,
        typer.Option(
            "--deletion/--no-deletion", help="Allow or forbid the deletion of versions."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Change what the policy of a key allows. New keys allow neither."""
    store.allow(name, exportable=export, deletion=deletion)
    show_entry(store, name, as_json=json)


@with_store
def note(store: Keystore, name: Name, text: str, json: Json = False) -> None:
    """Replace the note of a key."""
    store.set_note(name, text)
    show_entry(store, name, as_json=json)


@with_store
def uses(
    store: Keystore,
    name: Name,
    add: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="KIND REFERENCE", help="Register run, bundle …"),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Remove one that no longer exists."),
    ] = None,
    json: Json = False,
) -> None:
    """Show, add or remove the uses of a key. NAME@2 adds one for version 2."""
    plain, version = parse_key_name(name)
    if add is not None:
        store.add_use(plain, *add, version=version)
    if remove is not None:
        store.remove_use(plain, remove)
    show_entry(store, plain, as_json=json)


@with_store
def export(store: Keystore, key: Versioned, file: Path, json: Json = False) -> None:
    """Write a model key to FILE, readable only by its owner. Logged first."""
    name, version = _which(store, key)
    secret = ModelKey(store.export(name, version))
    write_private(
        file,
        to_text(KEY_1, secret.reveal()),
        comments=[f"mlguard model key {name}@{version}", f"key id {secret.key_id}"],
    )
    value = {
        "name": name,
        "version": version,
        "key_id": secret.key_id,
        "file": str(file),
    }
    text = f"{name}@{version}  {secret.key_id}  in {file}"
    answer(value, text, as_json=json)


@with_store
def import_(
    store: Keystore,
    name: Name,
    file: Path,
    version: Annotated[
        bool,
        typer.Option("--version", help="Add it as a new version of an existing key."),
    ] = False,
    json: Json = False,
) -> None:
    """Read a model key that `keys export` wrote."""
    secret = ModelKey(from_text(KEY_1, read_private(file, say=warn))).reveal()
    if len(set(secret)) < LEAST_DISTINCT_BYTES:
        raise NotAllowed(
            f"the key in {file} is not random: it has only {len(set(secret))} "
            "distinct bytes",
            hint="`mlguard keys new NAME` draws a key",
        )
    if version:
        store.add_version(name, secret)
    else:
        store.add(name, secret)
    show_entry(store, name, as_json=json)


def _which(store: Keystore, key: str) -> tuple[str, int]:
    name, version = parse_key_name(key)
    return name, store.info(name).primary if version is None else version


def _confirm(name: str, version: int, given: str | None) -> None:
    if given is None and sys.stdin is not None and sys.stdin.isatty():
        print(
            f"Type {name} to erase version {version} for ever: ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        given = sys.stdin.readline().strip()
    if given != name:
        raise NotAllowed(
            f"the name must be given to erase version {version} of {name}",
            hint=f"add --confirm {name}",
        )
