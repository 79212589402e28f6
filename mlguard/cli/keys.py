"""`mlguard keygen`, and the table of the `mlguard keys` commands."""

import os
import sys
from typing import Annotated

import typer

from keystore import (
    Identity,
    IdentityError,
    Keystore,
    Passphrase,
    Token,
    TokenIdentity,
    check_name,
)
from mlguard.cli import key_lifecycle, key_listing, key_slots, key_store
from mlguard.cli.answers import Json, answer
from mlguard.cli.key_listing import Name
from mlguard.cli.key_slots import identity_at, slots_app, token_at
from mlguard.cli.openers import FROM_TERMINAL
from mlguard.cli.panels import ADVANCED, STORE, VERSIONS, Commands
from mlguard.cli.printable import say, tell, warn
from mlguard.cli.unlock import Unlock, pins, unlocking
from mlguard.keys import ModelKey
from mlguard.rules import BLOCK_SIZES

SHOWN_BLOCK_SIZES = (2, 4, 8)  # those of the papers; --block-size chooses another
RECOVERY_LABEL = "recovery"
SHEET_LINES = ((0, 3), (3, 10), (10, 17))  # the prefix, then seven groups per line

keys_app = Commands(
    no_args_is_help=True, help="Model keys: make, show, rotate, destroy, back up."
)
keys_app.command("list")(key_listing.list_keys)
keys_app.command()(key_listing.show)
keys_app.command()(key_lifecycle.new)
keys_app.command(examples=("mlguard keys rotate acme --promote",))(key_lifecycle.rotate)
keys_app.command(rich_help_panel=VERSIONS, examples=("mlguard keys promote zebra@2",))(
    key_lifecycle.promote
)
keys_app.command(
    rich_help_panel=VERSIONS, examples=("mlguard keys disable acme@1 --compromised",)
)(key_lifecycle.disable)
keys_app.command(rich_help_panel=VERSIONS)(key_lifecycle.enable)
keys_app.command(
    rich_help_panel=VERSIONS, examples=("mlguard keys destroy acme@1 --confirm acme",)
)(key_lifecycle.destroy)
keys_app.command(
    rich_help_panel=VERSIONS, examples=("mlguard keys allow zebra --export",)
)(key_lifecycle.allow)
keys_app.command(rich_help_panel=VERSIONS)(key_lifecycle.note)
keys_app.command(
    rich_help_panel=VERSIONS, examples=("mlguard keys uses acme --remove runs/acme",)
)(key_lifecycle.uses)
keys_app.command(
    rich_help_panel=VERSIONS, examples=("mlguard keys export zebra@2 zebra.key",)
)(key_lifecycle.export)
keys_app.command(
    "import",
    rich_help_panel=VERSIONS,
    examples=("mlguard keys import zebra-copy zebra.key",),
)(key_lifecycle.import_)
keys_app.command(rich_help_panel=STORE)(key_slots.passwd)
keys_app.add_typer(slots_app, name="slots", rich_help_panel=STORE)
keys_app.command(
    rich_help_panel=STORE, examples=("mlguard keys backup backup-1.mlgk",)
)(key_store.backup)
keys_app.command(
    rich_help_panel=STORE, examples=("mlguard keys restore backup-1.mlgk",)
)(key_store.restore)
keys_app.command(rich_help_panel=STORE)(key_store.check)
keys_app.command(rich_help_panel=STORE)(key_store.accept)
keys_app.command(rich_help_panel=STORE)(key_store.log)


@unlocking
def keygen(
    name: Name,
    key_space: Annotated[
        bool,
        typer.Option(
            "--key-space",
            help="Also show what transforms of images keep of the key.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    block_size: Annotated[
        int | None,
        typer.Option(
            help="The same, for this block size only.", rich_help_panel=ADVANCED
        ),
    ] = None,
    recovery: Annotated[
        bool | None,
        typer.Option(
            "--recovery/--no-recovery",
            help="Print a recovery identity for a new keystore; default: ask.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Draw a new model key and store it under NAME.

    The keystore is made on first use: with a passphrase, asked for twice, or made for
        you if you leave the question empty; or with --identity FILE, which is also made
        if it does not exist yet.
    """
    check_name(name)  # before anything is asked for or made
    if block_size is not None and block_size not in BLOCK_SIZES:
        known = ", ".join(map(str, BLOCK_SIZES))
        raise typer.BadParameter(f"--block-size is one of {known}, got {block_size}")
    if unlock.storage.exists():
        _refuse_missing_identity(unlock)
        store = unlock.open()
    else:
        store = _create(unlock)
        if _wants_recovery(recovery):
            _print_recovery(store)
    key = ModelKey.generate()
    with store:
        store.add(name, key.reveal())
    value = {"name": name, "key_id": key.key_id, "keystore": store.location}
    lines = [f"{name}  {key.key_id}  in {store.location}"]
    if key_space or block_size:
        sizes = (block_size,) if block_size else SHOWN_BLOCK_SIZES
        # numpy, which no other command about keys needs, takes as long as they do.
        from mlguard.cli.keygen_table import key_space_lines

        lines += key_space_lines(sizes, chosen=bool(block_size))
    answer(value, "\n".join(lines), as_json=json)
    tell(
        "mlguard: it seals models, and you need it to open them and to issue "
        f"customers' files; next: mlguard export model.onnx --key {name} --out "
        f"{name}.mlgb"
    )


def _refuse_missing_identity(unlock: Unlock) -> None:
    path = unlock.identity_path
    if unlock.token_uri is not None or path in (None, FROM_TERMINAL):
        return
    if os.path.lexists(path):
        return
    raise IdentityError(
        f"there is no file at {path}",
        hint=f"{unlock.storage.location} already exists, and a new identity would not "
        "open it: name the one that does, or another --keystore",
    )


def _create(unlock: Unlock) -> Keystore:
    location, path = unlock.storage.location, unlock.identity_path
    opener: Identity | Passphrase | Token | TokenIdentity
    if unlock.token_uri is not None:
        opener = token_at(unlock, unlock.token_uri)
    elif path is None:
        opener = unlock.passphrase(location, confirm=True)
    elif path == FROM_TERMINAL:
        opener = unlock.opener(location)
    else:
        opener = identity_at(path)
    store = Keystore.create(unlock.storage, opener, pins=pins(), say=warn)
    tell(f"mlguard: made the keystore {store.location}")
    return store


def _wants_recovery(recovery: bool | None) -> bool:
    if recovery is not None:
        return recovery
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    print(
        "Print a recovery identity, to lock away? It opens the keystore if the "
        "passphrase is lost. [y/N]: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_recovery(store: Keystore) -> None:
    identity = Identity.generate(pq=True)
    store.add_slot(identity, label=RECOVERY_LABEL)
    groups = identity.reveal().split("-")
    say(f"Recovery identity {identity.id} of {store.location}")
    say("Write it down or print it, and lock it away. It will not be shown again.")
    for first, last in SHEET_LINES:
        say("    " + "-".join(groups[first:last]))
    say("`mlguard keys list --identity -` asks for it.")
