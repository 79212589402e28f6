"""`mlguard keygen` and `mlguard keys`: make model keys, and see which there are."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keystore import Entry, Identity, Keystore, Passphrase, check_name
from mlguard.cli.unlock import (
    DEFAULT_KEYSTORE,
    IdentityFile,
    KeystorePath,
    PassphraseFd,
    PassphraseFile,
    choose_identity,
    find_opener,
    find_passphrase,
    parse_key_name,
)
from mlguard.keys import KEY_BYTES, ModelKey
from mlguard.transforms import (
    BLOCK_SIZES,
    METHODS,
    MIN_KEY_SPACE_BITS,
    key_space_bits,
)

SHOWN_BLOCK_SIZES = (2, 4, 8)  # those of the papers; --block-size asks for another

keys_app = typer.Typer(no_args_is_help=True, help="List and show model keys.")
Name = Annotated[str, typer.Argument(help="The key's name.")]


def keygen(
    name: Name,
    block_size: Annotated[
        int | None,
        typer.Option(help="Show the key space for this block size only."),
    ] = None,
    keystore: KeystorePath = DEFAULT_KEYSTORE,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFd = None,
    identity: IdentityFile = None,
) -> None:
    """Draw a new model key and keep it under NAME.

    The keystore is made on first use: with a passphrase, asked for twice, or with
    --identity FILE, which is made as well if there is no such file yet.
    """
    check_name(name)  # before anything is asked for or made
    if block_size is not None and block_size not in BLOCK_SIZES:
        known = ", ".join(map(str, BLOCK_SIZES))
        raise typer.BadParameter(f"--block-size is one of {known}, got {block_size}")
    if os.path.lexists(keystore):
        store = Keystore.open(
            keystore,
            find_opener(
                keystore,
                passphrase_file=passphrase_file,
                passphrase_fd=passphrase_fd,
                identity=identity,
            ),
        )
    else:
        store = _create(keystore, passphrase_file, passphrase_fd, identity)
    key = ModelKey.generate()
    with store:
        store.add(name, key.reveal())
    print(f"{name}  {key.key_id}  in {store.location}")
    _print_key_space((block_size,) if block_size else SHOWN_BLOCK_SIZES)


@keys_app.command("list")
def list_keys(
    keystore: KeystorePath = DEFAULT_KEYSTORE,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFd = None,
    identity: IdentityFile = None,
) -> None:
    """List all keys: name, key id of the primary version, number of versions."""
    opener = find_opener(
        keystore,
        passphrase_file=passphrase_file,
        passphrase_fd=passphrase_fd,
        identity=identity,
    )
    with Keystore.open(keystore, opener) as store:
        names = store.names()
        width = max(map(len, names), default=0)
        for name in names:
            entry = store.info(name)
            ids = _key_ids(store, entry)
            count = len(entry.versions)
            plural = "version" if count == 1 else "versions"
            print(f"{name:{width}}  {ids[entry.primary]:16}  {count} {plural}")
    if not names:
        print(f"{keystore} holds no keys yet", file=sys.stderr)


@keys_app.command()
def show(
    name: Name,
    keystore: KeystorePath = DEFAULT_KEYSTORE,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFd = None,
    identity: IdentityFile = None,
) -> None:
    """Show what is known about a key: its versions, policy and uses."""
    plain, _ = parse_key_name(name)
    opener = find_opener(
        keystore,
        passphrase_file=passphrase_file,
        passphrase_fd=passphrase_fd,
        identity=identity,
    )
    with Keystore.open(keystore, opener) as store:
        entry = store.info(plain)
        ids = _key_ids(store, entry)
    print(f"name     {entry.name}")
    print(f"purpose  {entry.purpose}")
    if entry.note:
        print(f"note     {entry.note}")
    for version in entry.versions:
        mark = "  primary" if version.id == entry.primary else ""
        print(
            f"version  {version.id}  {ids[version.id]}  {version.state}"
            f"  {version.created}{mark}"
        )
    for use in entry.uses:
        print(f"use      {use.kind} {use.reference}, version {use.version}")


def _create(
    keystore: Path, file: Path | None, descriptor: int | None, identity: Path | None
) -> Keystore:
    chosen = choose_identity(file, descriptor, identity)
    opener: Identity | Passphrase
    if chosen is None:
        opener = find_passphrase(keystore, file, descriptor, confirm=True)
    elif os.path.lexists(chosen):
        opener = Identity.read(chosen)
    else:
        opener = Identity.generate()
        opener.write(chosen)
        print(
            f"mlguard: made {chosen}: whoever has this file can open the keystore",
            file=sys.stderr,
        )
    store = Keystore.create(keystore, opener)
    print(f"mlguard: made the keystore {store.location}", file=sys.stderr)
    return store


def _key_ids(store: Keystore, entry: Entry) -> dict[int, str]:
    """The key id of each version; a version without a model key has none."""
    ids = {}
    for version in entry.versions:
        ids[version.id] = "-"
        if version.state == "enabled":
            secret = store.get(entry.name, version.id)
            if len(secret) == KEY_BYTES:
                ids[version.id] = ModelKey(secret).key_id
    return ids


def _print_key_space(block_sizes: tuple[int, ...]) -> None:
    """What is left of 256 bits once a transform has used them."""
    print(f"key space: the secret {8 * KEY_BYTES} bits; what a transform keeps of it:")
    print("       " + "".join(f"{f'M={size}':>10}" for size in block_sizes))
    weak = []
    for method in METHODS:
        bits = {size: key_space_bits([method], size) for size in block_sizes}
        print(f"  {method:5}" + "".join(f"{bits[m]:10.1f}" for m in block_sizes))
        weak += [f"{method} M={m}" for m in block_sizes if bits[m] < MIN_KEY_SPACE_BITS]
    if weak:
        print(
            f"mlguard: warning: below {MIN_KEY_SPACE_BITS} bits a thief may try all "
            f"transforms: {', '.join(weak)}",
            file=sys.stderr,
        )
