"""A recipient: the public half of an identity, as one line that can be passed on.

What is wrapped for a recipient opens with his identity alone. The wrapping is HPKE (RFC
9180, base mode), from `cryptography`. docs/spec/keystore-v2.md, section 3.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PublicKey,
    Suite,
)

from keystore.errors import IdentityError

PREFIX = "mlguard-recipient-1-"
CHECKSUM_BYTES = 4
ID_BYTES = 8
MLKEM_BYTES = 1184  # of an ML-KEM-768 public key, FIPS 203
VERIFY_BYTES = 32  # of an Ed25519 public key
X25519, HYBRID, P256 = "x25519", "mlkem768-x25519", "p256"
PUBLIC_BYTES = {X25519: 32, HYBRID: MLKEM_BYTES + 32, P256: 65}
ENC_BYTES = {X25519: 32, HYBRID: 1088 + 32, P256: 65}
TAG_BYTES = 16
MAX_LINE = 4096  # characters; the longest line has about two thousand
MAX_PLAINTEXT_BYTES = 64 * 1024  # keys are wrapped, not files

PublicKey = X25519PublicKey | MLKEM768X25519PublicKey | EllipticCurvePublicKey


def suite_of(kem: str) -> Suite:
    """Return HPKE with a KEM, HKDF-SHA256 and AES-256-GCM."""
    known = {X25519: KEM.X25519, HYBRID: KEM.MLKEM768_X25519, P256: KEM.P256}
    return Suite(known[kem], KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A public key to wrap for, and a key to check signatures with.

    Attributes:
        kem: Which public key it is: x25519, mlkem768-x25519 or p256.
        public: The public key as HPKE writes it.
        verify: An Ed25519 public key; empty for a key on a token, which signs nothing.
    """

    kem: str
    public: bytes
    verify: bytes

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the recipient."""
        return hashlib.sha256(self._labelled()).digest()[:ID_BYTES].hex()

    @property
    def recipient(self) -> str:
        """What `line` gives, under the name that an identity has for it."""
        return self.line()

    def line(self) -> str:
        """The recipient as one line of text, with a checksum.

        Example:
            >>> from keystore import Identity
            >>> identity = Identity(bytes(32))
            >>> Recipient.parse(identity.recipient).id == identity.id
            True
        """
        data = self.public + self.verify + self._checksum()
        body = base64.b32encode(data).decode("ascii").rstrip("=").lower()
        return f"{PREFIX}{self.kem}-{body}"

    @classmethod
    def parse(cls, text: str) -> "Recipient":
        """Read a line; white space around it and case do not matter.

        Raises:
            IdentityError: Not a recipient, or mistyped.
        """
        line = text.strip().lower()
        kem, _, body = line.removeprefix(PREFIX).rpartition("-")
        if not line.startswith(PREFIX) or kem not in PUBLIC_BYTES:
            raise IdentityError(
                f"not a recipient: expected a line that begins with {PREFIX}",
                hint="`mlguard identity show FILE` prints the line of an identity",
            )
        verify = 0 if kem == P256 else VERIFY_BYTES
        size, data = PUBLIC_BYTES[kem], _unbase32(body) if len(line) < MAX_LINE else b""
        if len(data) != size + verify + CHECKSUM_BYTES:
            raise IdentityError(
                f"the recipient is incomplete: expected "
                f"{size + verify + CHECKSUM_BYTES} bytes, got {len(data)}",
                hint="copy the whole line",
            )
        found = cls(kem=kem, public=data[:size], verify=data[size : size + verify])
        if found.line() != line:
            raise IdentityError(
                "the checksum of the recipient does not match",
                hint="a character may be mistyped or missing; copy the whole line",
            )
        found.public_key()
        return found

    def public_key(self) -> PublicKey:
        """The public key, for `cryptography`.

        Raises:
            IdentityError: The bytes are not such a key.
        """
        try:
            if self.kem == X25519:
                return X25519PublicKey.from_public_bytes(self.public)
            if self.kem == P256:
                return EllipticCurvePublicKey.from_encoded_point(
                    SECP256R1(), self.public
                )
            return MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.public[:MLKEM_BYTES]),
                X25519PublicKey.from_public_bytes(self.public[MLKEM_BYTES:]),
            )
        except ValueError:
            raise IdentityError("the recipient's public key cannot be used") from None

    def wrap(self, plaintext: bytes | bytearray, info: bytes) -> bytes:
        """Encrypt for this recipient; opening takes the same `info`.

        Raises:
            IdentityError: The public key cannot be used.
        """
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise ValueError(f"at most {MAX_PLAINTEXT_BYTES} bytes are wrapped")
        try:
            return suite_of(self.kem).encrypt(plaintext, self.public_key(), info)
        except ValueError:  # such as a point of small order
            raise IdentityError("the recipient's public key cannot be used") from None

    def _labelled(self) -> bytes:
        label = f"mlguard recipient 1 {self.kem}\n".encode("ascii")
        return label + self.public + self.verify

    def _checksum(self) -> bytes:
        return hashlib.sha256(b"checksum\n" + self._labelled()).digest()[
            :CHECKSUM_BYTES
        ]


def wrap(recipient_line: str, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt for the recipient that a line names; his identity's `unwrap` opens it.

    Args:
        recipient_line: The line from `Identity.recipient`.
        plaintext: At most 64 KiB: a key, not a file.
        info: Context that must not be swapped; both sides give the same.

    Raises:
        IdentityError: Not a recipient, or not a usable public key.

    Example:
        >>> from keystore import Identity
        >>> identity = Identity(bytes(32))
        >>> sealed = wrap(identity.recipient, b"a content key", b"grant 7")
        >>> identity.unwrap(sealed, b"grant 7")
        b'a content key'
    """
    return Recipient.parse(recipient_line).wrap(plaintext, info)


def _unbase32(body: str) -> bytes:
    try:
        return base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError):
        return b""
