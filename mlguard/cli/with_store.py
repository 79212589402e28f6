"""The four options that open a keystore, written once for every `keys` command."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from keystore import Keystore
from mlguard.cli.unlock import (
    DEFAULT_KEYSTORE,
    IdentityFile,
    KeystorePath,
    PassphraseFd,
    PassphraseFile,
    find_opener,
    pins,
)

P = ParamSpec("P")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def open_store(
    keystore: Path,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    identity: Path | None = None,
    *,
    accept: bool = False,
) -> Keystore:
    """Open a keystore with what the options, the environment or a person give.

    Raises:
        KeystoreError: It does not open.
    """
    opener = find_opener(
        keystore,
        passphrase_file=passphrase_file,
        passphrase_fd=passphrase_fd,
        identity=identity,
    )
    return Keystore.open(keystore, opener, pins=pins(), accept=accept)


def with_store(
    command: Callable[Concatenate[Keystore, P], None],
) -> Callable[..., None]:
    """Give a command an open keystore, and the options that open it."""

    @functools.wraps(command)
    def run(
        *args: Any,
        keystore: Path = DEFAULT_KEYSTORE,
        passphrase_file: Path | None = None,
        passphrase_fd: int | None = None,
        identity: Path | None = None,
        **kwargs: Any,
    ) -> None:
        with open_store(keystore, passphrase_file, passphrase_fd, identity) as store:
            command(store, *args, **kwargs)

    own = list(inspect.signature(command).parameters.values())[1:]
    options = {
        "keystore": (KeystorePath, DEFAULT_KEYSTORE),
        "passphrase_file": (PassphraseFile, None),
        "passphrase_fd": (PassphraseFd, None),
        "identity": (IdentityFile, None),
    }
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
        )
        for name, (kind, default) in options.items()
    ]
    parameters = [*own, *added]  # typer reads these two
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def answer(value: object, text: str, *, as_json: bool) -> None:
    """Print an answer as a person or as a program wants it."""
    print(json.dumps(value, indent=2) if as_json else text)
