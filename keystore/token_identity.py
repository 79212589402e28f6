"""An identity whose private half is in a PKCS#11 token and never leaves it.

The token does the elliptic-curve step of HPKE on P-256, which more tokens know than
X25519; the rest of RFC 9180 is done here. Every opening takes the token and its PIN.
docs/spec/keystore-v2.md, section 3.
"""

import hmac
import os
from types import ModuleType
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keystore.errors import IdentityError
from keystore.recipient import ENC_BYTES, P256, TAG_BYTES, Recipient
from keystore.sealing import KEY_BYTES, PREFIX_2
from keystore.token import ECDH, TokenLock, driver
from keystore.token_uri import TokenUri

KEM_ID = b"\x00\x10"  # DHKEM(P-256, HKDF-SHA256)
SUITE = b"HPKE" + KEM_ID + b"\x00\x01\x00\x02"  # HKDF-SHA256, AES-256-GCM
HASH_BYTES = 32
INFO = PREFIX_2 + b"pkcs11"  # of a slot secret


class TokenIdentity:
    """A P-256 key pair on a token, and the PIN.

    Args:
        uri: Module, token and key; its type is `private`.
        pin: The user's PIN. A wrong one is not tried twice: tokens lock themselves.
    """

    __slots__ = ("_pin", "_public", "_uri")

    kind = "pkcs11"

    def __init__(self, uri: TokenUri, pin: str) -> None:
        self._uri = uri
        self._pin = pin
        self._public: Recipient | None = None

    def make_key(self) -> bool:
        """Make the key pair if it does not exist; return whether it was made.

        Raises:
            TokenError: The token is missing or refuses.
        """
        made: bool = _curves().make_pair(self._uri, self._pin)
        return made

    @property
    def recipient(self) -> str:
        """The public half, as one line that may be shown to anybody.

        Raises:
            TokenError: The token is missing or refuses.
        """
        return self._recipient().line()

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the identity. Raises as `recipient`."""
        return self._recipient().id

    def unwrap(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was wrapped for this identity's recipient.

        Raises:
            IdentityError: It is for another identity or `info`, or was altered.
            TokenError: The token is missing or refuses.
        """
        with _curves().open_pair(self._uri, self._pin) as pair:
            opened = _open(pair, sealed, info)
        if opened is None:
            raise IdentityError(
                f"{self} does not open it",
                hint="it is for another identity, or it was altered",
            )
        return opened

    def new_lock(self) -> TokenLock:
        """The public part of a new slot. Raises as `recipient`."""
        with _curves().open_pair(self._uri, self._pin) as pair:
            recipient = Recipient(kem=P256, public=pair.public, verify=b"")
            secret = recipient.wrap(os.urandom(KEY_BYTES), INFO)
            return TokenLock(key_id=pair.id, mechanism=ECDH, nonce=b"", secret=secret)

    def wrapping_key(self, lock: object) -> bytes | None:
        """Return the slot secret; None if it is not this key's."""
        if not isinstance(lock, TokenLock) or lock.mechanism != ECDH:
            return None
        with _curves().open_pair(self._uri, self._pin) as pair:
            return _open(pair, lock.secret, INFO) if pair.id == lock.key_id else None

    def _recipient(self) -> Recipient:
        if self._public is None:
            with _curves().open_pair(self._uri, self._pin) as pair:
                self._public = Recipient(kem=P256, public=pair.public, verify=b"")
        return self._public

    def __str__(self) -> str:
        return f"the key {self._uri}"

    def __repr__(self) -> str:
        return f"TokenIdentity({str(self._uri)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TokenIdentity is never pickled")


def _open(pair: "_Pair", sealed: bytes, info: bytes) -> bytes | None:
    """Open HPKE, base mode (RFC 9180, sections 4.1, 5.1 and 6.1)."""
    enc, ciphertext = sealed[: ENC_BYTES[P256]], sealed[ENC_BYTES[P256] :]
    if len(ciphertext) < TAG_BYTES:
        return None
    exchanged = pair.exchange(enc)
    if exchanged is None:
        return None
    kem = b"KEM" + KEM_ID
    prk = _extract(kem, b"", b"eae_prk", exchanged)
    secret = _expand(kem, prk, b"shared_secret", enc + pair.public, HASH_BYTES)
    context = b"\x00" + _extract(SUITE, b"", b"psk_id_hash", b"")
    context += _extract(SUITE, b"", b"info_hash", info)
    prk = _extract(SUITE, secret, b"secret", b"")
    key = _expand(SUITE, prk, b"key", context, 32)
    nonce = _expand(SUITE, prk, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except InvalidTag:
        return None


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    data = b"HPKE-v1" + suite + label + ikm
    return hmac.digest(salt or bytes(HASH_BYTES), data, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(SHA256(), size, labelled).derive(prk)


class _Pair:
    """The key pair of `pkcs11_curve`, for the type checker."""

    id: bytes
    public: bytes

    def exchange(self, point: bytes) -> bytes | None:
        """Return the shared secret with a point; None if it is not on the curve."""


def _curves() -> ModuleType:
    return driver("pkcs11_curve")
