"""`ffx`: encrypt values of every block, digit by digit, at positions from the key."""

from typing import Any, Self

import numpy as np
import pyffx
from numpy.typing import ArrayLike, NDArray

from mlguard.keys import ModelSubkeys
from mlguard.rules import BYTE_MAX
from mlguard.transforms.base import DerivedTransform, checked_mask
from mlguard.transforms.blocks import CHANNELS, block_length
from mlguard.transforms.choice import half_mask
from mlguard.transforms.key_space import subset_bits
from mlguard.transforms.lookups import Lookups

DIGITS = 3  # decimal; 0…255 is encrypted into 0…999, as in arXiv:2107.09362
TABLE_SIZE = BYTE_MAX + 1
TABLE_LIMIT = 1 << 24  # float32 holds every integer below this exactly

KNOWN_PASSWORD = b"password"
KNOWN_ANSWER = (355, 522, 858, 133, 916, 326, 747, 930)  # of 0…7


class FormatPreserving(DerivedTransform):
    """Format-preserving Feistel encryption of the values where the mask is set.

    One password encrypts all values alike, so the encryption is a table of 256 entries,
    and one image with its transformed twin reveals the table. The password's 256 bits
    therefore do not count as key space; only the mask's do.

    Args:
        block_size: M, in pixels.
        mask: One boolean for each of the 3·M² positions; any number may be set.
        table: The encrypted value of each value 0 … 255: 256 different integers.

    Raises:
        ValueError: The mask is not 3·M² booleans, or the table is not such a table.

    Source: arXiv:2107.09362, section 2.3; Bellare, Rogaway and Spies 2010, FFX. How
        mask and password follow from the key is our own rule:
        docs/spec/transforms-v1.md, section 4.
    """

    name = "ffx"

    def __init__(
        self, block_size: int, mask: NDArray[np.bool_], table: ArrayLike
    ) -> None:
        super().__init__(block_size)
        self.mask = checked_mask(np.asarray(mask), self.length)
        self.table: NDArray[np.int32] = _checked_table(np.asarray(table))

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Derive from the subkeys "ffx-mask/m=M/c=3" and "ffx-password"."""
        length = block_length(block_size)
        subkey = subkeys.derive(f"ffx-mask/m={block_size}/c={CHANNELS}")
        table = encryption_table(subkeys.derive("ffx-password"))
        return cls(block_size, half_mask(subkey, length), table)

    @staticmethod
    def key_space(block_size: int) -> float:
        """Return log2 C(3·M², 3·M²/2), the mask's bits; the password adds none."""
        length = block_length(block_size)
        return subset_bits(length, length // 2)

    @property
    def key_space_bits(self) -> float:
        """Return log2 of the number of masks with as many positions set."""
        return subset_bits(self.length, int(self.mask.sum()))

    @property
    def scale(self) -> float:
        """The table's largest entry: key material, since the password decides it."""
        return float(self.table.max())

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the mask (L, 1, 1) bool and the table (256,) float32."""
        table = self.table.astype(np.float32)
        table.flags.writeable = False
        return {"ffx.mask": self.mask.reshape(-1, 1, 1), "ffx.table": table}

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Encrypt the values that the mask selects."""
        return np.where(self.mask, self.table[blocks], blocks)

    def after(self, lookups: Lookups) -> Lookups:
        """Encrypt what they give, where the mask selects it."""
        return lookups.substituted(self.mask, self.table)

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Decrypt the values that the mask selects."""
        way_back = np.full(int(self.table.max()) + 1, -1, dtype=np.int32)
        way_back[self.table] = np.arange(TABLE_SIZE, dtype=np.int32)
        return np.where(self.mask, way_back[blocks], blocks)


def encryption_table(password: bytes) -> NDArray[np.int32]:
    """Encrypt 0 … 255 once, so that pixels need only a table lookup.

    Shape:
        returns  (256,) int32, values 0 … 999

    Raises:
        RuntimeError: pyffx gives wrong numbers on this machine, as on big-endian ones,
            because it packs integers in the machine's byte order.
    """
    known = pyffx.Integer(KNOWN_PASSWORD, length=DIGITS)
    if tuple(known.encrypt(value) for value in range(8)) != KNOWN_ANSWER:
        raise RuntimeError("pyffx gives wrong numbers on this machine; ffx cannot run")
    cipher = pyffx.Integer(password, length=DIGITS)
    return np.array([cipher.encrypt(v) for v in range(TABLE_SIZE)], dtype=np.int32)


def _checked_table(table: NDArray[Any]) -> NDArray[np.int32]:
    if table.shape != (TABLE_SIZE,) or table.dtype.kind not in "iu":
        raise ValueError(
            f"expected {TABLE_SIZE} integers, got {table.shape} {table.dtype}"
        )
    if table.min() < 0 or table.max() >= TABLE_LIMIT:
        raise ValueError(f"expected table entries in 0…{TABLE_LIMIT - 1}")
    if np.unique(table).size != TABLE_SIZE:
        raise ValueError(
            "expected a table of different entries; this one cannot be inverted"
        )
    checked = table.astype(np.int32)
    checked.flags.writeable = False
    return checked
