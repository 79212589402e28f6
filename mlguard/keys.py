"""Step 1: a model key, and the labelled subkeys that every other step derives from it.

One secret per model key, one public `protection_id` per protected model, one subkey
per use: two models under one key, or two uses in one model, never share key
material. This module knows no keystore, no transform and no file. Labels and
derivations are fixed by docs/spec/keys-v1.md; changing one makes every protected
model useless to its owner.
"""

import os
from typing import NoReturn, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = [
    "KEY_BYTES",
    "PROTECTION_ID_BYTES",
    "ModelKey",
    "ModelSubkeys",
    "TrainingSecret",
    "new_protection_id",
]

KEY_BYTES = 32
PROTECTION_ID_BYTES = 16
SUBKEY_BYTES = 32
KEY_ID_DIGITS = 16  # hex; 64 bits, enough to tell an owner's keys apart

LABEL = "mlguard/v1/"  # every HKDF info string starts with this
KEY_ID_USE = "key-id"
TRAINING_USE = "training/"  # begins the use of every training secret
DRAW_USE = "training-draw/"  # begins every use of a training secret


def new_protection_id() -> bytes:
    """Draw the public identifier of one protected model, 16 random bytes."""
    return os.urandom(PROTECTION_ID_BYTES)


class ModelKey:
    """The secret that makes protected models useful.

    Compare two keys by their `key_id`; secrets have no `==`.

    Raises:
        ValueError: The secret is not 32 bytes.

    Example:
        >>> key = ModelKey(bytes(range(32)))
        >>> key
        ModelKey(key_id='ccd2335cbf0d3f1d')
        >>> one, other = key.for_model(bytes(16)), key.for_model(bytes([1] * 16))
        >>> one.derive("shf/m=4/c=3") == other.derive("shf/m=4/c=3")
        False
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a model key is {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def key_id(self) -> str:
        """Sixteen hex digits that name the key. Safe to print, log and publish."""
        return _hkdf(self._secret, b"", KEY_ID_USE).hex()[:KEY_ID_DIGITS]

    def for_model(self, protection_id: bytes) -> "ModelSubkeys":
        """Return the subkeys of one protected model.

        Raises:
            ValueError: The protection id is not 16 bytes.
        """
        return ModelSubkeys(self, protection_id)

    def for_training(self, recipe_digest: bytes) -> "TrainingSecret":
        """Return the secret of one recipe's training; docs/spec/keys-v1.md, section 8.

        Args:
            recipe_digest: SHA-256 of everything that decides the result, the seed
                included.
        """
        use = TRAINING_USE + recipe_digest.hex()
        return TrainingSecret(_hkdf(self._secret, b"", use))

    def reveal(self) -> bytes:
        """Return the secret itself. Only mlguard/cli calls this, for a keystore."""
        return self._secret

    def __repr__(self) -> str:
        return f"ModelKey(key_id={self.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ModelKey is never pickled; store it in a keystore")


class ModelSubkeys:
    """The subkeys of one protected model under one model key."""

    __slots__ = ("_key", "_protection_id")

    def __init__(self, key: ModelKey, protection_id: bytes) -> None:
        if len(protection_id) != PROTECTION_ID_BYTES:
            raise ValueError(
                f"a protection id is {PROTECTION_ID_BYTES} bytes, "
                f"got {len(protection_id)}"
            )
        self._key = key
        self._protection_id = bytes(protection_id)

    @property
    def key_id(self) -> str:
        """The public name of the model key."""
        return self._key.key_id

    @property
    def protection_id(self) -> bytes:
        """The public identifier of the protected model, 16 bytes."""
        return self._protection_id

    def derive(self, use: str) -> bytes:
        """Derive the 32-byte subkey of one use.

        Args:
            use: The purpose of the subkey, with every parameter that changes its
                meaning, for example "shf/m=4/c=3".

        Raises:
            ValueError: The use is empty or reserved.
        """
        # HMAC pads its key with zeros, so an all-zero protection id is the empty salt
        # of the key id, and this use would then be a subkey that is partly published.
        # The same holds of the secrets that trainings draw from.
        if not use or use == KEY_ID_USE or use.startswith(TRAINING_USE):
            raise ValueError(f"{use!r} is not a valid use of a subkey")
        return _hkdf(self._key.reveal(), self._protection_id, use)

    def __repr__(self) -> str:
        name, model = self.key_id, self._protection_id.hex()
        return f"ModelSubkeys(key_id={name!r}, protection_id={model!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("ModelSubkeys are never pickled; derive them again")


class TrainingSecret:
    """The secret that one training draws its weights, data order and crops from.

    An adversary who knows it can draw the initial weights again and pair them with the
    trained ones, which is as good as a public ancestor. So it is derived from the model
    key, or drawn from the operating system and kept private.

    Raises:
        ValueError: The secret is not 32 bytes.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(
                f"a training secret is {KEY_BYTES} bytes, got {len(secret)}"
            )
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Draw a secret from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES))

    def derive(self, use: str) -> bytes:
        """Derive the 32-byte subkey of one kind of draw, for example "order"."""
        return _hkdf(self._secret, b"", DRAW_USE + use)

    def word(self, use: str) -> int:
        """Return the first 64 bits of a subkey, little-endian, to seed a generator.

        Neither the secret nor any other subkey follows from it.
        """
        return int.from_bytes(self.derive(use)[:8], "little")

    def reveal(self) -> bytes:
        """Return the secret itself, for the private file of a run without a key."""
        return self._secret

    def __repr__(self) -> str:
        return "TrainingSecret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TrainingSecret is never pickled; derive it again")


def _hkdf(secret: bytes, salt: bytes, use: str) -> bytes:
    info = (LABEL + use).encode()
    return HKDF(SHA256(), length=SUBKEY_BYTES, salt=salt, info=info).derive(secret)
