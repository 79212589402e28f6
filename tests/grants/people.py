"""Recipients and owners for tests: HPKE on X25519, written here with `cryptography`."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from mlguard.errors import WrongKey
from mlguard.signing import SigningKey

OWNER, STRANGER = SigningKey(bytes(range(1, 33))), SigningKey(bytes(range(2, 34)))
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Person:
    """Somebody with a key pair, who can wrap for himself and unwrap."""

    def __init__(self, name: str, secret: bytes) -> None:
        self.recipient = f"recipient-{name}"
        self._key = X25519PrivateKey.from_private_bytes(secret)

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        return SUITE.encrypt(secret, self._key.public_key(), info=info)

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        try:
            return SUITE.decrypt(wrapped, self._key, info=info)
        except InvalidTag:
            raise WrongKey("cannot unwrap") from None


HOSPITAL, CLINIC = Person("hospital", bytes(range(32))), Person("clinic", bytes(32))
