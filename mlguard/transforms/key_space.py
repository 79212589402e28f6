"""Effective key space: how many bits of choice a transform really has.

A 256-bit model key does not make a 256-bit transform: negative/positive with 2×2
blocks has 924 masks, whatever the key, and a thief tries them all.
"""

import math

MIN_KEY_SPACE_BITS = 80  # below this an exhaustive search is in somebody's reach


def permutation_bits(length: int) -> float:
    """Give log2 of the number of permutations of `length` things."""
    return math.lgamma(length + 1) / math.log(2)


def subset_bits(length: int, chosen: int) -> float:
    """Give log2 of the number of ways to choose `chosen` of `length` things."""
    rest = length - chosen
    return permutation_bits(length) - permutation_bits(chosen) - permutation_bits(rest)
