"""A small model's weights, and what becomes of them before they turn up."""

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelKey

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(range(16)))
ALICE, BOB, CAROL = (bytes([number] * 16) for number in (1, 2, 3))
CUSTOMERS = {"Alice": ALICE, "Bob": BOB, "Carol": CAROL}
SHAPES = {
    "stem.weight": (32, 3, 3, 3),
    "block.depthwise.weight": (32, 1, 3, 3),
    "block.conv.weight": (64, 32, 3, 3),
    "block.other.weight": (64, 64, 3, 3),
    "head.weight": (128, 64),
    "head.bias": (128,),
}
Weights = dict[str, NDArray[np.float32]]


def weights(seed: int = 0) -> Weights:
    """As training leaves them: rows of different sizes, tails longer than normal."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, shape in SHAPES.items():
        rows = draw.lognormal(-3, 0.5, (shape[0], *[1] * (len(shape) - 1)))
        found[name] = (rows * draw.standard_t(5, shape)).astype(np.float32)
    return found


def quantized(given: Weights, bits: int) -> Weights:
    """Symmetric integers with a scale for each row, and back."""
    found = {}
    for name, one in given.items():
        most = np.abs(one).reshape(len(one), -1).max(1) / (2 ** (bits - 1) - 1)
        scale = most.reshape(-1, *[1] * (one.ndim - 1))
        found[name] = (np.rint(one / scale) * scale).astype(np.float32)
    return found


def pruned(given: Weights, share: float) -> Weights:
    return {
        name: one * (np.abs(one) > np.quantile(np.abs(one), share))
        for name, one in given.items()
    }


def noisy(given: Weights, share: float) -> Weights:
    draw = np.random.default_rng(9)
    return {
        name: one + (share * one.std() * draw.standard_normal(one.shape)).astype("f4")
        for name, one in given.items()
    }


def reordered(given: Weights, *, scales: bool = True) -> Weights:
    """Rows and columns permuted, and rescaled and negated too."""
    draw, found = np.random.default_rng(5), {}
    for name, one in given.items():
        found[name] = one = one[draw.permutation(len(one))]
        if one.ndim < 2:
            continue
        one = one[:, draw.permutation(one.shape[1])]
        if scales:
            rows, columns = (
                draw.uniform(0.5, 2, n) * draw.choice([-1, 1], n) for n in one.shape[:2]
            )
            one = one * rows.reshape(-1, *[1] * (one.ndim - 1))
            one = one * columns.reshape(-1, *[1] * (one.ndim - 2))
        found[name] = one.astype(np.float32)
    return found
