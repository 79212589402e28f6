"""The Gaussian code of one grant: a number for every weight, drawn from the key.

Everything is in integers, so that another language gets the same code: 16 bits of the
ChaCha20 keystream pick an entry of a table. docs/spec/marks-v1.md, section 2.
"""

from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys

GRANT_ID_BYTES = 16
UNIT = 1024  # entries of the table are in units of 1/1024
WORDS = 1 << 16
WORDS_PER_DRAW = 1 << 18  # 512 KiB of keystream at a time
ZERO_NONCE = bytes(16)  # block counter 0 (4 bytes), then the nonce of RFC 8439

Codes = NDArray[np.int16]


@lru_cache(maxsize=1)
def table() -> Codes:
    """Return the standard normal quantile at (w + 1/2) / 65,536, for each w.

    Shape:
        returns  (65536,) int16, read-only, in units of 1/1024
    """
    quantile = NormalDist().inv_cdf
    upper = [
        round(UNIT * quantile((word + 0.5) / WORDS))
        for word in range(WORDS // 2, WORDS)
    ]
    entries = np.array([-entry for entry in reversed(upper)] + upper, dtype=np.int16)
    entries.flags.writeable = False
    return entries


@lru_cache(maxsize=1)
def variance() -> float:
    """Return the variance of the table's entries, as numbers and not in its units."""
    return float((table().astype(np.float64) ** 2).mean()) / UNIT**2


def words(
    subkeys: ModelSubkeys, grant_id: bytes, name: str, size: int
) -> Iterator[tuple[slice, NDArray[np.uint16]]]:
    """Yield the words of one tensor's code, some at a time.

    Args:
        subkeys: The subkeys of the protected model.
        grant_id: The grant of the marked copy, 16 bytes.
        name: The tensor's name in the owner's model.
        size: How many elements the tensor has.

    Returns:
        The elements, in C order, and their words.

    Raises:
        ValueError: The grant id is not 16 bytes.
    """
    subkey = subkeys.derive(f"mark/{checked(grant_id).hex()}/{name}")
    stream = Cipher(ChaCha20(subkey, ZERO_NONCE), mode=None).encryptor()
    zeros = bytes(2 * WORDS_PER_DRAW)
    for start in range(0, size, WORDS_PER_DRAW):
        stop = min(start + WORDS_PER_DRAW, size)
        drawn = stream.update(zeros[: 2 * (stop - start)])
        yield slice(start, stop), np.frombuffer(drawn, dtype="<u2")


def checked(grant_id: bytes) -> bytes:
    """Return a grant id, if it is valid.

    Raises:
        ValueError: It is not 16 bytes.
    """
    if len(grant_id) != GRANT_ID_BYTES:
        raise ValueError(f"a grant id is {GRANT_ID_BYTES} bytes, got {len(grant_id)}")
    return grant_id
