"""Transforms written as matrix and offset do what the transforms do."""

import pickle

import numpy as np
import pytest

from mlguard.errors import BindingError
from mlguard.keys import ModelKey
from mlguard.models.binding import affine_of
from mlguard.transforms import derive_transform
from mlguard.transforms.blocks import to_blocks

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHAINS = [("shf",), ("np",), ("np", "shf"), ("shf", "np"), ("orthogonal",)]


def images(size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, size, 2 * size), np.uint8)


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
@pytest.mark.parametrize("size", [2, 4, 8])
def test_map_is_the_transform(methods: tuple[str, ...], size: int) -> None:
    transform = derive_transform(methods, SUBKEYS, size)
    blocks = to_blocks(images(), size) / 255
    affine = affine_of(transform)
    mapped = blocks @ affine.matrix.T + affine.offset
    expected = to_blocks(transform.apply(images()), size)
    assert np.abs(mapped - expected).max() < 1e-6
    back = affine.inverse()
    assert np.abs(mapped @ back.matrix.T + back.offset - blocks).max() < 1e-9


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_normalized_map_takes_normalized_images(methods: tuple[str, ...]) -> None:
    transform = derive_transform(methods, SUBKEYS, 4)
    mean, std = (np.tile(numbers, 16) for numbers in (MEAN, STD))
    plain = (to_blocks(images(), 4) / 255 - mean) / std
    keyed = (to_blocks(transform.apply(images()), 4) - mean) / std
    affine = affine_of(transform).normalized(MEAN, STD)
    assert np.abs(plain @ affine.matrix.T + affine.offset - keyed).max() < 1e-5
    unlike = affine_of(transform)  # the twin: without normalization it is another map
    assert np.abs(plain @ unlike.matrix.T + unlike.offset - keyed).max() > 0.1
    back = affine.inverse()
    assert np.abs(keyed @ back.matrix.T + back.offset - plain).max() < 1e-5


def test_ffx_is_refused_with_what_remains() -> None:
    transform = derive_transform(("shf", "ffx"), SUBKEYS, 2)
    with pytest.raises(BindingError, match=r"ffx cannot be folded .* in a table") as no:
        affine_of(transform)
    assert "shf, np, orthogonal and channels" in no.value.hint


def test_blocks_too_large_for_a_matrix_are_refused() -> None:
    transform = derive_transform(("np",), SUBKEYS, 64)
    with pytest.raises(BindingError, match=r"64 x 64 blocks cannot .* 12288 values"):
        affine_of(transform)


def test_a_map_shows_nothing_and_is_not_pickled() -> None:
    affine = affine_of(derive_transform(("shf",), SUBKEYS, 1))
    assert repr(affine) == "AffineBlocks(block_size=1)"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(affine)
