"""Signing keys and trusted signers: ECDSA on P-256, as in OpenSSF Model Signing.

A signer is named by the SHA-256 of its public key's PEM text, which a signature carries
as its hint. docs/spec/signing-v1.md, section 1.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn, Protocol, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from mlguard.errors import SignatureNotTrusted

MAX_PEM_BYTES = 4096  # a P-256 public key has about 180
SECRET_BYTES = 32
SHOWN_DIGITS = 16  # of a signer's id, enough to tell signers apart


@dataclass(frozen=True)
class PublicSigner:
    """The public half of a signing key.

    Attributes:
        pem: The key as PEM text, spelled as `cryptography` writes it.
    """

    pem: bytes

    @property
    def signer_id(self) -> str:
        """SHA-256 of the PEM text, hex."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def shown(self) -> str:
        """The name of the signer in messages."""
        return self.signer_id[:SHOWN_DIGITS]

    @cached_property
    def _key(self) -> ec.EllipticCurvePublicKey:
        key = serialization.load_pem_public_key(self.pem)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise AssertionError("read_signer takes nothing else")
        return key

    def accepts(self, signature: bytes, data: bytes) -> bool:
        """Whether this signer made a signature (DER) of the data."""
        try:
            self._key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """A key that signs, in memory or in a token."""

    @property
    def public(self) -> PublicSigner:
        """The public half."""

    def sign(self, data: bytes) -> bytes:
        """Return an ECDSA-with-SHA-256 signature in DER."""


class SigningKey:
    """A P-256 signing key in memory. It shows its public id only.

    Example:
        >>> key = SigningKey.generate()
        >>> key.public.accepts(key.sign(b"data"), b"data")
        True
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a signing key is {SECRET_BYTES} bytes")
        self._key = ec.derive_private_key(int.from_bytes(secret), ec.SECP256R1())

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key."""
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        return cls(number.private_value.to_bytes(SECRET_BYTES))

    @property
    def public(self) -> PublicSigner:
        """The public half."""
        return _public(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Return an ECDSA-with-SHA-256 signature in DER."""
        return self._key.sign(data, ec.ECDSA(SHA256()))

    def reveal(self) -> bytes:
        """The secret number, 32 bytes. Only mlguard/cli calls this, for a keystore."""
        return self._key.private_numbers().private_value.to_bytes(SECRET_BYTES)

    def __repr__(self) -> str:
        return f"SigningKey(signer={self.public.shown!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SigningKey is never pickled; store it in a keystore")


def read_signer(pem: bytes, *, name: str) -> PublicSigner:
    """Read a public signing key.

    Args:
        pem: PEM text.
        name: What to call it in a refusal.

    Raises:
        SignatureNotTrusted: It is not a P-256 public key in PEM.
    """
    try:
        if len(pem) > MAX_PEM_BYTES:
            raise ValueError
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
        key.curve, ec.SECP256R1
    ):
        raise SignatureNotTrusted(
            f"{name} is not a P-256 public key in PEM",
            hint="`mlguard signer show` prints the owner's; ask him for it",
        )
    return _public(key)


def _public(key: ec.EllipticCurvePublicKey) -> PublicSigner:
    return PublicSigner(
        key.public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
