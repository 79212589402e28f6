"""A passphrase, and the work that each try costs.

docs/spec/keystore-v1.md, section 3.
"""

import os
import unicodedata
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keystore.canonical import Fields
from keystore.errors import PassphraseRefused, WorkFactorTooHigh
from keystore.sealing import KEY_BYTES, Secret, wipe

SALT_BYTES = 16
MAX_PASSPHRASE_BYTES = 1024  # longer is a file given by mistake
MIN_MEMORY_KIB = 8 * 1024  # 8 MiB; below this a slot is not worth its name
MAX_MEMORY_KIB = 2 * 1024 * 1024  # 2 GiB
MAX_ITERATIONS = 16
MAX_LANES = 16
FIELDS = ("iterations", "lanes", "memory_kib", "salt")


@dataclass(frozen=True, kw_only=True)
class WorkFactor:
    """The cost of one try of a passphrase, in Argon2id's terms.

    The default takes about half a second on two cores.
    """

    memory_kib: int = 256 * 1024
    iterations: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        if self.memory_kib < MIN_MEMORY_KIB or self.iterations < 1 or self.lanes < 1:
            raise ValueError(f"{self} is below the minimum")
        self.check()

    def check(self) -> None:
        """Refuse more work than the limits allow.

        Raises:
            WorkFactorTooHigh: A cost is above its bound.
        """
        for name, found, limit in (
            ("memory_kib", self.memory_kib, MAX_MEMORY_KIB),
            ("iterations", self.iterations, MAX_ITERATIONS),
            ("lanes", self.lanes, MAX_LANES),
        ):
            if found > limit:
                raise WorkFactorTooHigh(f"{name} is {found}, limit is {limit}")

    @property
    def total_kib(self) -> int:
        """Memory times iterations; the time is proportional to it."""
        return self.memory_kib * self.iterations


@dataclass(frozen=True, kw_only=True)
class PassphraseLock:
    """The public part of a passphrase slot."""

    salt: bytes
    work: WorkFactor
    kind = "passphrase"

    def fields(self) -> dict[str, object]:
        """The fields as the header writes them."""
        return {
            "iterations": self.work.iterations,
            "lanes": self.work.lanes,
            "memory_kib": self.work.memory_kib,
            "salt": self.salt.hex(),
        }

    @classmethod
    def read(cls, fields: Fields) -> "PassphraseLock":
        """Read the fields and check the costs; a hostile file must not choose our work.

        Raises:
            MalformedKeystore: A field is not as the specification says.
            WorkFactorTooHigh: A cost is above its bound.
        """
        anything = 2**53 - 1  # above the limit is a refusal of its own, in WorkFactor
        work = WorkFactor(
            memory_kib=fields.integer("memory_kib", MIN_MEMORY_KIB, anything),
            iterations=fields.integer("iterations", 1, anything),
            lanes=fields.integer("lanes", 1, anything),
        )
        return cls(salt=fields.octets("salt", SALT_BYTES, SALT_BYTES), work=work)


class Passphrase:
    """The text that a person types. It opens any passphrase slot that it fits.

    Args:
        text: The passphrase.
        work: The cost of a new slot for it. Existing slots keep their own.

    Raises:
        PassphraseRefused: It is empty, too long, or not text.

    Example:
        >>> Passphrase("correct horse")
        Passphrase(...)
    """

    __slots__ = ("_text", "_work")

    kind = "passphrase"

    def __init__(self, text: str, *, work: WorkFactor | None = None) -> None:
        try:
            self._text = bytearray(unicodedata.normalize("NFC", text), "utf-8")
        except UnicodeEncodeError:
            raise PassphraseRefused("the passphrase is not valid text") from None
        if not self._text:
            raise PassphraseRefused(
                "the passphrase is empty", hint="choose a few words"
            )
        if len(self._text) > MAX_PASSPHRASE_BYTES:
            raise PassphraseRefused(
                f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes",
                hint="was another file named by mistake?",
            )
        self._work = work or WorkFactor()

    def new_lock(self) -> PassphraseLock:
        """The public part of a new slot."""
        return PassphraseLock(salt=os.urandom(SALT_BYTES), work=self._work)

    def wipe(self) -> None:
        """Overwrite the passphrase; it then opens nothing."""
        wipe(self._text)
        self._text.clear()

    def wrapping_key(self, lock: object) -> Secret | None:
        """Stretch the passphrase for one slot; None for other kinds of slot."""
        if not isinstance(lock, PassphraseLock):
            return None
        if not self._text:
            raise ValueError("the passphrase was wiped")
        key = bytearray(KEY_BYTES)
        stretch = Argon2id(
            salt=lock.salt,
            length=KEY_BYTES,
            iterations=lock.work.iterations,
            lanes=lock.work.lanes,
            memory_cost=lock.work.memory_kib,
        )
        try:
            stretch.derive_into(self._text, key)  # type: ignore[arg-type]
        except MemoryError:
            raise WorkFactorTooHigh(
                f"the slot needs {lock.work.memory_kib // 1024} MiB of memory, "
                "more than this machine has",
                hint="open the keystore on a larger machine, or by another slot",
            ) from None
        return key

    def __str__(self) -> str:
        return "the passphrase"

    def __repr__(self) -> str:
        return "Passphrase(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Passphrase is never pickled")
