"""The two key pairs derived from one 32-byte seed: one opens, one signs.

docs/spec/keystore-v2.md, section 3.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from keystore.recipient import HYBRID, X25519, Recipient, suite_of
from keystore.sealing import PREFIX_2, derive

MLKEM_SEED_BYTES = 64  # FIPS 203: d and z


class KeyPairs:
    """Key pairs of a seed: they open what was wrapped for its recipient, and sign.

    Args:
        seed: 32 uniform bytes.
        kem: x25519 or mlkem768-x25519.
    """

    __slots__ = ("_opening", "_signing", "recipient")

    def __init__(self, seed: bytes | bytearray, kem: str) -> None:
        exchange = X25519PrivateKey.from_private_bytes(_part(seed, kem, "x25519", 32))
        signing = _part(seed, kem, "ed25519", 32)
        public = exchange.public_key().public_bytes_raw()
        self._opening: X25519PrivateKey | MLKEM768X25519PrivateKey = exchange
        self._signing = Ed25519PrivateKey.from_private_bytes(signing)
        if kem == HYBRID:
            lattice = MLKEM768PrivateKey.from_seed_bytes(
                _part(seed, kem, "mlkem768", MLKEM_SEED_BYTES)
            )
            public = lattice.public_key().public_bytes_raw() + public
            self._opening = MLKEM768X25519PrivateKey(lattice, exchange)
        elif kem != X25519:
            raise ValueError(f"no seed makes a key pair of kind {kem}")
        verify = self._signing.public_key().public_bytes_raw()
        self.recipient = Recipient(kem=kem, public=public, verify=verify)

    def unwrap(self, sealed: bytes, info: bytes) -> bytes | None:
        """Return what was wrapped for the recipient; None if it does not open."""
        try:
            return suite_of(self.recipient.kem).decrypt(sealed, self._opening, info)
        except (InvalidTag, ValueError):
            return None

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature."""
        return self._signing.sign(message)


def _part(seed: bytes | bytearray, kem: str, use: str, size_bytes: int) -> bytes:
    label = f"{kem}/{use}"
    return derive(seed, label, salt=b"", size_bytes=size_bytes, prefix=PREFIX_2)
