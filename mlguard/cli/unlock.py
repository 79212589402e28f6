"""The options that name a keystore and open it, declared once for every command.

The first one found opens it: `--token`, `--identity`, `--passphrase-fd`,
`--passphrase-file`; then `MLGUARD_TOKEN`, `MLGUARD_IDENTITY_FILE`,
`MLGUARD_PASSPHRASE_FILE`; then a question on the terminal. `--identity -` asks for an
identity, such as the one on a recovery sheet, or reads it from a pipe. The command line
thus takes precedence over the environment.
"""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

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
from mlguard.cli.ask import Source
from mlguard.cli.openers import chosen, pin_of, read_identity
from mlguard.cli.printable import warn
from mlguard.cli.process import hide_memory
from mlguard.cli.unlock_options import (
    DEFAULT_KEYSTORE,
    IDENTITY_VARIABLE,
    PASSPHRASE_VARIABLE,
    TOKEN_VARIABLE,
    IdentityFile,
    KeystorePlace,
    PassphraseFd,
    PassphraseFile,
    PinFd,
    PinFile,
    TokenKey,
)


@dataclass(frozen=True, kw_only=True)
class Unlock:
    """The options about a keystore. Each field is an option."""

    keystore: KeystorePlace = DEFAULT_KEYSTORE
    passphrase_file: PassphraseFile = None
    passphrase_fd: PassphraseFd = None
    identity: IdentityFile = None
    token: TokenKey = None
    pin_file: PinFile = None
    pin_fd: PinFd = None

    @functools.cached_property
    def storage(self) -> Storage:
        """The place of the keystore, whether it exists or not."""
        return storage_at(self.keystore)

    def open(self, *, accept: bool = False) -> Keystore:
        """Open the keystore.

        Raises:
            KeystoreNotFound: It does not exist, so nothing is asked.
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
        """Return what opens the keystore: the first source found, or an answer.

        Raises:
            IdentityError: The identity file is missing, unsafe or damaged.
            PassphraseMissing: There is no source, and no terminal to ask at.
            PassphraseRefused: The passphrase is empty, too long, or not text.
            TokenError: The URI does not name a key on a token.
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
        """Return the URI of a key on a token; None if another source comes first."""
        if self.token is not None:
            return self.token
        named = (self.identity, self.passphrase_file, self.passphrase_fd)
        if any(each is not None for each in named):
            return None
        return os.environ.get(TOKEN_VARIABLE) or None

    def key_on_token(self, uri: str) -> Token | TokenIdentity:
        """Return a key on a token, with its PIN. Raises as `opener`."""
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
        """Return the identity file to use, or None if a passphrase comes first."""
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
        new = "New passphrase" if confirm else "Passphrase"
        text = source.read(f"{new} for {location}", confirm=confirm)
        return chosen(text) if confirm else Passphrase(text)


def pins() -> Pins | None:
    """Return the pins of the keystores seen so far.

    Pins in the usual place of this user count as well, whatever the environment says.
    Without any place, the result is None, with a warning.
    """
    named = os.environ.get("XDG_STATE_HOME")
    folders = [home / ".local" / "state" for home in home_folders()]
    if named:
        folders.insert(0, Path(named))
    if not folders:
        warn(
            "there is no home folder, so the state of the keystore is not remembered: "
            "an older copy in its place would not be noticed; XDG_STATE_HOME can name "
            "a folder"
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
    """Return a command with its own parameters and the options, as typer reads them."""
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
