"""Deterministic choice: a subkey picks a permutation or a mask, always the same one.

The words come from a ChaCha20 keystream and the choice is Fisher-Yates with rejection
sampling, so nothing depends on the release of a library. Never `torch.randperm`,
`numpy.random` or `random`: they change between releases, and a 64-bit seed is not a
key. docs/spec/keys-v1.md, sections 4 to 6.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

WORDS_PER_DRAW = 1 << 14  # 64 KiB of keystream at a time
WORD_VALUES = 1 << 32
ZERO_NONCE = bytes(16)  # block counter 0 (4 bytes), then the nonce of RFC 8439


def words(subkey: bytes) -> Iterator[int]:
    """Yield the keystream of a subkey as unsigned 32-bit little-endian words.

    The zero nonce is safe because a subkey has exactly one use.

    Source: RFC 8439, section 2.4, starting at block counter 0.
    """
    encryptor = Cipher(ChaCha20(subkey, ZERO_NONCE), mode=None).encryptor()
    zeros = bytes(4 * WORDS_PER_DRAW)
    while True:
        yield from np.frombuffer(encryptor.update(zeros), dtype="<u4").tolist()


def keystream(subkey: bytes, count: int) -> NDArray[np.uint32]:
    """Return the first words of a subkey at once. Shape: (count,)."""
    encryptor = Cipher(ChaCha20(subkey, ZERO_NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * count)), dtype="<u4")


def permutation(subkey: bytes, length: int) -> NDArray[np.int64]:
    """Choose one of all permutations of 0 … length-1, each equally likely.

    Shape:
        returns  (length,) int64, read-only
    """
    order = list(range(length))
    stream = words(subkey)
    for last in range(length - 1, 0, -1):
        choices = last + 1
        limit = WORD_VALUES - WORD_VALUES % choices
        word = next(stream)
        while word >= limit:  # or the first choices would be more likely
            word = next(stream)
        pick = word % choices
        order[last], order[pick] = order[pick], order[last]
    chosen = np.array(order, dtype=np.int64)
    chosen.flags.writeable = False
    return chosen


def half_mask(subkey: bytes, length: int) -> NDArray[np.bool_]:
    """Choose length // 2 of the positions 0 … length-1.

    Shape:
        returns  (length,) bool, read-only
    """
    mask = np.zeros(length, dtype=np.bool_)
    mask[permutation(subkey, length)[: length // 2]] = True
    mask.flags.writeable = False
    return mask


def coin_flips(subkey: bytes, length: int) -> NDArray[np.float32]:
    """Choose +1 or -1 for each position, each equally likely: -1 for an odd word.

    Shape:
        returns  (length,) float32, read-only
    """
    drawn = np.array([word & 1 for word in islice(words(subkey), length)])
    signs: NDArray[np.float32] = np.where(drawn == 1, -1, 1).astype(np.float32)
    signs.flags.writeable = False
    return signs
