"""Effective key space: how many bits of choice a transform has.

A 256-bit model key does not make a 256-bit transform: negative/positive with 2×2
blocks has 924 masks, whatever the key, and a thief tries them all.
"""

import math

from mlguard.keys import KEY_BYTES

SECRET_BITS = 8 * KEY_BYTES
MIN_KEY_SPACE_BITS = 80  # below this, an exhaustive search is feasible


def said_bits(bits: float) -> str:
    """Format an effective key space, which is at most the bits of the secret.

    Args:
        bits: log2 of the number of distinct transforms.

    >>> said_bits(44.93)
    '44.9 bits'
    >>> said_bits(79_635.24)
    '256 bits, all of the secret (its transforms have 79,635.2)'
    """
    if bits <= SECRET_BITS:
        return f"{bits:.1f} bits"
    return f"{SECRET_BITS} bits, all of the secret (its transforms have {bits:,.1f})"


def permutation_bits(length: int) -> float:
    """Return log2 of the number of permutations of `length` things."""
    return math.lgamma(length + 1) / math.log(2)


def subset_bits(length: int, chosen: int) -> float:
    """Return log2 of the number of ways to choose `chosen` of `length` things."""
    rest = length - chosen
    return permutation_bits(length) - permutation_bits(chosen) - permutation_bits(rest)
