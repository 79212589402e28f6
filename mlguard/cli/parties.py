"""Owners, customers and signers: from the keystore, for issuing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from keystore import (
    IdentityError,
    KeyNotFound,
    KeyNotUsable,
    Keystore,
    Recipient,
)
from keystore.textform import looks_secret
from mlguard.cli.panels import ADVANCED
from mlguard.cli.unlock import Unlock
from mlguard.errors import SignatureNotTrusted, WrongKey
from mlguard.files import read_bounded, read_text
from mlguard.grants import Unwraps
from mlguard.signing import PublicSigner, SigningKey, read_signer

SIGNER = "signer"  # default name of the signing key
PURPOSE = "signing"
MAX_TEXT_BYTES = 64 * 1024

SignerName = Annotated[
    str,
    typer.Option(
        "--signer",
        help="Name of the signing key in the keystore.",
        rich_help_panel=ADVANCED,
    ),
]


@dataclass(frozen=True)
class Customer:
    """A recipient, to be named in grants and wrapped for."""

    recipient: str
    _key: Recipient

    @classmethod
    def read(cls, given: str) -> "Customer":
        """Read a recipient's line, or the file that holds it.

        Raises:
            IdentityError: It is not a recipient's line, and not such a file.
        """
        path = Path(given)
        if not given.startswith("mlguard-recipient-") and path.is_file():
            try:
                given = read_text(path, MAX_TEXT_BYTES)
            except (OSError, UnicodeDecodeError):
                raise IdentityError(f"{path} does not hold a recipient") from None
        elif not given.startswith("mlguard-recipient-"):
            shown = "the value given" if looks_secret(given) else given
            raise IdentityError(
                f"{shown} is neither a recipient's line nor a file that holds one",
                hint="`mlguard identity show FILE` prints the customer's line",
            )
        key = Recipient.parse(given)
        return cls(key.line(), key)

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """Wrap for this recipient, bound to `info`."""
        return self._key.wrap(secret, info)


@dataclass(frozen=True)
class Holder:
    """The holder of an identity, who can unwrap what was wrapped for his recipient."""

    identity: Unwraps

    @property
    def recipient(self) -> str:
        """The public line of the recipient."""
        return self.identity.recipient

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """Unwrap bytes.

        Raises:
            WrongKey: They were wrapped for another recipient, or altered.
        """
        try:
            return self.identity.unwrap(wrapped, info)
        except IdentityError:
            raise WrongKey(
                "the identity does not open the grant, although the grant names it",
                hint="the grant was altered, or made for another file; ask the owner",
            ) from None


@contextmanager
def open_signer(name: str, unlock: Unlock) -> Iterator[tuple[Keystore, SigningKey]]:
    """Open the keystore and take the signing key out of it.

    Raises:
        KeystoreError: The keystore does not open, or has no such key.
    """
    with unlock.open() as store:
        yield store, signer_of(store, name)


def signer_of(store: Keystore, name: str) -> SigningKey:
    """Return the signing key of a name.

    Raises:
        KeyNotFound: It does not exist.
        KeyNotUsable: The key of that name is not for signing.
    """
    try:
        info = store.info(name)
    except KeyNotFound as refusal:
        raise KeyNotFound(
            str(refusal), hint="make a signing key once with `mlguard signer new`"
        ) from None
    if info.purpose != PURPOSE:
        raise KeyNotUsable(
            f"{name} is a key for {info.purpose}, not for signing",
            hint="make a signing key once with `mlguard signer new`",
        )
    return SigningKey(store.get(name))


def read_public_signer(path: Path) -> PublicSigner:
    """Read a signer's public key from a file.

    Raises:
        SignatureNotTrusted: There is none.
    """
    try:
        content = read_bounded(path, MAX_TEXT_BYTES)
    except OSError as error:
        raise SignatureNotTrusted(
            f"cannot read signer {path}: {error.strerror}", hint="check the path"
        ) from None
    return read_signer(content, name=str(path))
