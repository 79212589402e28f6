"""Transforms, images and chains that the tests of all three back-ends share."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from mlguard.keys import ModelKey
from mlguard.rules import ORTHOGONAL_SIZES
from mlguard.transforms import BLOCK_SIZES, Transform, derive_transform

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(range(16)))
CHAINS = (
    ("shf",),
    ("np",),
    ("ffx",),
    ("shf", "np"),
    ("np", "shf"),
    ("np", "ffx"),
    ("ffx", "shf"),
    ("np", "shf", "ffx"),
    ("orthogonal",),
)
FITTING = [
    pytest.param(chain, size, id=f"{'+'.join(chain)}-{size}")
    for chain in CHAINS
    for size in (ORTHOGONAL_SIZES if chain == ("orthogonal",) else BLOCK_SIZES)
]


@cache
def derived(methods: tuple[str, ...], block_size: int) -> Transform:
    """One transform of the test key."""
    return derive_transform(methods, SUBKEYS, block_size)


def images(height: int, width: int, *, count: int = 2) -> NDArray[np.uint8]:
    """Random images that hold every value from 0 to 255 if they are large enough."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, 3, height, width), dtype=np.uint8)
