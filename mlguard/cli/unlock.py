"""The options that name a keystore and open it, declared once for every command.

What opens it, first found wins: `--token`, `--identity`, `--passphrase-fd`,
`--passphrase-file`; then `MLGUARD_TOKEN`, `MLGUARD_IDENTITY_FILE`,
`MLGUARD_PASSPHRASE_FILE`; then a question on the terminal. `--identity -` asks for an
identity, such as the one on a recovery sheet, or reads what is piped in. What is said
on the command line thus beats the environment.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from keystore import (
    Identity,
    Keystore,
    KeystoreNotFound,
    Passphrase,
    Pins,
    Storage,
    Token,
    TokenIdentity,
    TokenUri,
    storage_at,
)
from keystore.system import home_folders
from keystore.token_uri import refuse_planted
from mlguard.cli.ask import Source, ask
from mlguard.cli.printable import warn
from mlguard.cli.process import hide_memory

DEFAULT_KEYSTORE = str(Path(typer.get_app_dir("mlguard")) / "keystore.mlgk")
IDENTITY_VARIABLE = "MLGUARD_IDENTITY_FILE"
PASSPHRASE_VARIABLE = "MLGUARD_PASSPHRASE_FILE"
TOKEN_VARIABLE = "MLGUARD_TOKEN"
PIN_VARIABLE = "MLGUARD_PIN_FILE"
FROM_TERMINAL = Path("-")
SHORT_PASSPHRASE = 12  # characters

KeystorePlace = Annotated[
    str,
    typer.Option(
        "--keystore",
        envvar="MLGUARD_KEYSTORE",
        metavar="PATH or URL",
        help="The keystore: a file, or a database's URL.",
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"Read the passphrase from a file (or {PASSPHRASE_VARIABLE})",
        show_default=False,
    ),
]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        min=0,
        max=(1 << 31) - 1,
        metavar="N",
        help="Read the passphrase from an open file descriptor.",
        show_default=False,
    ),
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        help=f"Open the keystore with an identity file (or {IDENTITY_VARIABLE})",
        show_default=False,
    ),
]


TokenKey = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="URI",
        help=f"Open it with a key on a PKCS#11 token (or {TOKEN_VARIABLE})",
        show_default=False,
    ),
]
PinFile = Annotated[
    Path | None,
    typer.Option(
        "--pin-file",
        help=f"Read the token's PIN from a file (or {PIN_VARIABLE})",
        show_default=False,
    ),
]
PinFd = Annotated[
    int | None,
    typer.Option(
        "--pin-fd",
        metavar="N",
        help="Read the token's PIN from an open file descriptor.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Unlock:
    """What the command line says about a keystore. Each field is an option."""

    keystore: KeystorePlace = DEFAULT_KEYSTORE
    passphrase_file: PassphraseFile = None
    passphrase_fd: PassphraseFd = None
    identity: IdentityFile = None
    token: TokenKey = None
    pin_file: PinFile = None
    pin_fd: PinFd = None

    @functools.cached_property
    def storage(self) -> Storage:
        """Where the keystore is, or shall be."""
        return storage_at(self.keystore)

    def open(self, *, accept: bool = False) -> Keystore:
        """Open the keystore.

        Raises:
            KeystoreNotFound: There is none, so nothing is asked.
            KeystoreError: It does not open.
        """
        if not self.storage.exists():
            raise KeystoreNotFound(f"there is no keystore at {self.storage.location}")
        opener = self.opener(self.storage.location)
        try:
            return Keystore.open(
                self.storage, opener, pins=pins(), accept=accept, say=warn
            )
        finally:
            if isinstance(opener, Passphrase | Identity):
                opener.wipe()

    def opener(self, location: str) -> Passphrase | Identity | Token | TokenIdentity:
        """What opens the keystore: the first source there is, or an answer.

        Raises:
            IdentityError: The identity file is missing, unsafe or damaged.
            PassphraseMissing: No source, and no terminal to ask on.
            PassphraseRefused: The passphrase is empty, too long, or not text.
            TokenError: The URI names no key on a token.
        """
        hide_memory()
        if self.token_uri is not None:
            return self.key_on_token(self.token_uri)
        path = self.identity_path
        if path is not None:
            return read_identity(path, location)
        return self.passphrase(location)

    @property
    def token_uri(self) -> str | None:
        """The key on a token to use, or None if something else comes first."""
        if self.token is not None:
            return self.token
        named = (self.identity, self.passphrase_file, self.passphrase_fd)
        if any(each is not None for each in named):
            return None
        return os.environ.get(TOKEN_VARIABLE) or None

    def key_on_token(self, uri: str) -> Token | TokenIdentity:
        """A key on a token, with its PIN read or asked for. Raises as `opener`."""
        parsed = TokenUri.parse(uri)
        if self.token is None and uri == os.environ.get(TOKEN_VARIABLE):
            refuse_planted(
                parsed.module_path,
                hint="if you trust it, name the token with --token instead",
            )
        pin = pin_of(parsed, self.pin_file, self.pin_fd)
        return TokenIdentity(parsed, pin) if parsed.private else Token(parsed, pin)

    @property
    def identity_path(self) -> Path | None:
        """The identity file to use, or None if a passphrase comes first."""
        if self.identity is not None:
            return self.identity
        if self.passphrase_file is not None or self.passphrase_fd is not None:
            return None
        variable = os.environ.get(IDENTITY_VARIABLE)
        return Path(variable) if variable else None

    def passphrase(self, location: str, *, confirm: bool = False) -> Passphrase:
        """Read the passphrase, or ask for it. Raises as `opener`."""
        source = Source(
            what="passphrase",
            descriptor=self.passphrase_fd,
            file=self.passphrase_file,
            variable=PASSPHRASE_VARIABLE,
        )
        text = source.read(f"Passphrase for {location}", confirm=confirm)
        return _new(text) if confirm else Passphrase(text)


def pin_of(uri: TokenUri, file: Path | None, descriptor: int | None) -> str:
    """Read a token's PIN, or ask for it.

    Raises:
        PassphraseMissing: No source, and no terminal to ask on.
    """
    source = Source(
        what="PIN",
        descriptor=descriptor,
        file=file,
        variable=PIN_VARIABLE,
        hint=f"give --pin-file FILE or --pin-fd N, or set {PIN_VARIABLE}",
    )
    return source.read(f"PIN for {uri}")


def read_identity(path: Path, location: str) -> Identity:
    """Read an identity file; `-` is the terminal, or what is piped in.

    Raises:
        IdentityError: It is missing, unsafe or damaged.
        PassphraseMissing: There is nothing to read from.
    """
    hide_memory()
    if path != FROM_TERMINAL:
        return Identity.read(path, say=warn)
    if sys.stdin is None or sys.stdin.isatty():
        return Identity.parse(ask(f"Identity for {location}: "))
    return Identity.read(Path("/dev/stdin"), say=warn)


def new_passphrase(location: str, file: Path | None) -> Passphrase:
    """Read a passphrase that replaces or joins another one. Raises as `opener`."""
    source = Source(what="passphrase", file=file)
    return _new(source.read(f"New passphrase for {location}", confirm=True))


def _new(text: str) -> Passphrase:
    if len(text) < SHORT_PASSPHRASE:
        warn(
            f"the passphrase is short: whoever copies the keystore can try all of "
            f"{len(text)} character{'s' * (len(text) != 1)}; take five random words"
        )
    return Passphrase(text)


def pins() -> Pins | None:
    """Where it is remembered how far each keystore had come.

    Also what is remembered in the place that is usual for this user is heeded, whatever
    the environment says. None, and a word about it, where there is no place at all.
    """
    named = os.environ.get("XDG_STATE_HOME")
    folders = [home / ".local" / "state" for home in home_folders()]
    if named:
        folders.insert(0, Path(named))
    if not folders:
        warn(
            "there is no home folder, so nothing is remembered of the keystore: an "
            "older copy put back would not be noticed; XDG_STATE_HOME can name a folder"
        )
        return None
    first, *more = (folder / "mlguard" / "pins" for folder in folders)
    return Pins(first, more=more)


def unlocking(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `unlock` by the options that an Unlock holds."""
    known = inspect.signature(command).parameters
    return with_options(command, [p for p in known.values() if p.name != "unlock"])


def with_options(
    command: Callable[..., None], own: list[inspect.Parameter]
) -> Callable[..., None]:
    """A command with its own parameters and the options, as typer reads them."""
    options = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=each.type,
        )
        for each in fields(Unlock)
    ]

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        given = {o.name: kwargs.pop(o.name) for o in options if o.name in kwargs}
        command(*args, unlock=Unlock(**given), **kwargs)

    parameters = [*own, *options]  # typer reads these two
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
