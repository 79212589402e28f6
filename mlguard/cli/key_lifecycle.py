"""`mlguard keys`: what may happen to a key, from `new` to `destroy`."""

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

LEAST_DISTINCT_BYTES = 16  # of 32; random ones have fewer once in 10^16 keys
Versioned = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="The primary one without @.")
]
Force = Annotated[bool, typer.Option("--force", help="Do it all the same.")]


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
        bool, typer.Option("--promote", help="And make it the primary one.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw a new version of a key. What exists keeps its version."""
    version = store.add_version(name, ModelKey.generate().reveal())
    if promote:
        store.promote(name, version)
    show_entry(store, name, as_json=json)


@with_store
def promote(store: Keystore, key: Versioned, json: Json = False) -> None:
    """Make a version the one that is used from now on."""
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
        str | None, typer.Option(help="The key's name once more.", metavar="NAME")
    ] = None,
    json: Json = False,
) -> None:
    """Erase the secret of a disabled version for ever.

    Models that need it are lost with it. Refused while a run, checkpoint or bundle is
    registered for it, unless --force; the name has to be typed in any case.
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
        bool | None, typer.Option("--export/--no-export", help="Of its secrets.")
    ] = None,
    deletion: Annotated[
        bool | None, typer.Option("--deletion/--no-deletion", help="Of versions.")
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
        str | None, typer.Option(metavar="REFERENCE", help="Forget one that is gone.")
    ] = None,
    json: Json = False,
) -> None:
    """Show, add or remove what needs a key. NAME@2 adds for version 2."""
    plain, version = parse_key_name(name)
    if add is not None:
        store.add_use(plain, *add, version=version)
    if remove is not None:
        store.remove_use(plain, remove)
    show_entry(store, plain, as_json=json)


@with_store
def export(store: Keystore, key: Versioned, file: Path, json: Json = False) -> None:
    """Write a model key to FILE, readable by its owner alone. Logged first."""
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
        bool, typer.Option("--version", help="As a new version of a key that exists.")
    ] = False,
    json: Json = False,
) -> None:
    """Read a model key that `keys export` wrote."""
    secret = ModelKey(from_text(KEY_1, read_private(file, say=warn))).reveal()
    if len(set(secret)) < LEAST_DISTINCT_BYTES:
        raise NotAllowed(
            f"the key in {file} is not random: only {len(set(secret))} of its bytes "
            "differ from each other",
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
            f"to erase version {version} of {name}, its name has to be given",
            hint=f"add --confirm {name}",
        )
