"""Random-looking numbers that follow from a few integers, the same in every release.

It is for augmentation, shuffling and the generated images only, never for keys:
SplitMix64 is a 64-bit generator that anyone can invert (docs/spec/keys-v1.md says how a
key makes its choices).
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15  # the step between two states, 2**64 over the golden ratio
_STEP = np.uint64(GOLDEN)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """Return the output of SplitMix64 in one state.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
        generators", doi:10.1145/2660193.2660195.
    """
    word = (state + GOLDEN) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


class Draws:
    """A stream of numbers that depends only on its integers.

    Example:
        >>> Draws(0, 7).between(1, 6) == Draws(0, 7).between(1, 6)
        True
    """

    def __init__(self, *parts: int) -> None:
        self._state = 0
        for part in parts:
            self._state = splitmix64(self._state ^ (part & _MASK))

    def between(self, low: int, high: int) -> int:
        """Return an integer in low … high, both included."""
        return low + (self._word() * (high - low + 1) >> 64)

    def unit(self) -> float:
        """Return a number in [0, 1), a multiple of 2**-53."""
        return (self._word() >> 11) / (1 << 53)

    def words(self, count: int) -> Words:
        """Return the next `count` words at once. Shape: (count,)."""
        words = np.arange(1, count + 1, dtype=np.uint64) * _STEP
        words += np.uint64(self._state)
        self._state = (self._state + count * GOLDEN) & _MASK
        words = (words ^ (words >> np.uint64(30))) * _FIRST
        words = (words ^ (words >> np.uint64(27))) * _SECOND
        words ^= words >> np.uint64(31)
        return words

    def _word(self) -> int:
        word = splitmix64(self._state)
        self._state = (self._state + GOLDEN) & _MASK
        return word
