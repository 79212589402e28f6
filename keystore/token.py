"""A key on a PKCS#11 token as an opener: the token decrypts, and its key stays there.

The token's AES-256 key encrypts a random slot secret, which wraps the store key as an
identity does: so a slot commits to its key whatever mechanism the token has. A slot can
be read without the token. docs/spec/keystore-v1.md, section 11.
"""

import importlib
import os
import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import NoReturn

from keystore.canonical import Fields
from keystore.errors import TokenError
from keystore.recipient import ENC_BYTES, P256, TAG_BYTES
from keystore.sealing import KEY_BYTES
from keystore.token_uri import TokenUri

FIELDS = ("key_id", "mechanism", "nonce", "secret")
ECDH = "ecdh-p256"  # of format 2: HPKE for a key pair on the token
MECHANISM = re.compile("aes-gcm|aes-kwp|ecdh-p256")
NONCE_BYTES = {"aes-gcm": 12, "aes-kwp": 0, ECDH: 0}
SECRET_BYTES = {
    "aes-gcm": KEY_BYTES + TAG_BYTES,
    "aes-kwp": KEY_BYTES + 8,
    ECDH: ENC_BYTES[P256] + KEY_BYTES + TAG_BYTES,
}
MAX_KEY_ID_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class TokenLock:
    """The public part of a pkcs11 slot.

    Attributes:
        key_id: CKA_ID of the token's key.
        mechanism: How the token encrypted the slot secret.
        nonce: The nonce of AES-GCM; empty for AES-KWP (RFC 5649).
        secret: The slot secret, encrypted.
    """

    key_id: bytes
    mechanism: str
    nonce: bytes
    secret: bytes = field(repr=False)
    kind = "pkcs11"

    def fields(self) -> dict[str, object]:
        """The fields as the header writes them."""
        return {
            "key_id": self.key_id.hex(),
            "mechanism": self.mechanism,
            "nonce": self.nonce.hex(),
            "secret": self.secret.hex(),
        }

    @classmethod
    def read(cls, fields: Fields) -> "TokenLock":
        """Read the fields, strictly. No token is touched."""
        mechanism = fields.text("mechanism", MECHANISM, "a mechanism")
        nonce, secret = NONCE_BYTES[mechanism], SECRET_BYTES[mechanism]
        return cls(
            key_id=fields.octets("key_id", 1, MAX_KEY_ID_BYTES),
            mechanism=mechanism,
            nonce=fields.octets("nonce", nonce, nonce),
            secret=fields.octets("secret", secret, secret),
        )


class Token:
    """A key on a token, and the PIN.

    Args:
        uri: Module, token and key.
        pin: The user's PIN. A wrong one is not tried twice: tokens lock themselves.
        mechanism: The mechanism of new slots; the best that the token has if left out.
    """

    __slots__ = ("_mechanism", "_pin", "_uri")

    kind = "pkcs11"

    def __init__(
        self, uri: TokenUri, pin: str, *, mechanism: str | None = None
    ) -> None:
        self._uri = uri
        self._pin = pin
        self._mechanism = mechanism

    def make_key(self) -> bool:
        """Make the key on the token if it does not exist; return whether it was made.

        Raises:
            TokenError: The token is missing or refuses.
        """
        made: bool = _driver().make_key(self._uri, self._pin)
        return made

    def new_lock(self) -> TokenLock:
        """The public part of a new slot.

        Raises:
            TokenError: The token is missing or refuses.
        """
        with _driver().open_key(self._uri, self._pin) as key:
            mechanism = self._mechanism or key.best_mechanism()
            nonce = os.urandom(NONCE_BYTES[mechanism])
            secret = key.encrypt(mechanism, nonce, os.urandom(KEY_BYTES))
            return TokenLock(
                key_id=key.id, mechanism=mechanism, nonce=nonce, secret=secret
            )

    def wrapping_key(self, lock: object) -> bytes | None:
        """Return the slot secret; None if the slot is not this key's.

        Raises:
            TokenError: The token is missing or refuses.
        """
        if not isinstance(lock, TokenLock) or lock.mechanism == ECDH:
            return None
        with _driver().open_key(self._uri, self._pin) as key:
            if key.id != lock.key_id:
                return None
            secret: bytes | None = key.decrypt(lock.mechanism, lock.nonce, lock.secret)
        # AES-KWP pads, so what it held may be shorter than what it looked like.
        return secret if secret is not None and len(secret) == KEY_BYTES else None

    def __str__(self) -> str:
        return f"the key {self._uri}"

    def __repr__(self) -> str:
        return f"Token({str(self._uri)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Token is never pickled")


def driver(module: str) -> ModuleType:
    """Import the module that talks to tokens, which needs a package of its own.

    Raises:
        TokenError: The package is not installed.
    """
    try:
        return importlib.import_module(f"keystore.{module}")
    except ModuleNotFoundError:
        raise TokenError(
            "the package python-pkcs11 is not installed",
            hint="install it with `pip install '.[pkcs11]'`",
        ) from None


def _driver() -> ModuleType:
    return driver("pkcs11_key")
