"""`orthogonal`: mix all values of every block by an orthogonal map from the key.

The map consists of permutations, signs and Hadamard steps, so that it needs only whole
numbers and is the same on every machine: no random numbers, no decomposition. Its
result no longer looks like an image, so only a model whose first layer takes blocks
apart anyway can use it: it is for binding (`mlguard bind`), not for training.
docs/spec/transforms-v1.md, section 10.
"""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.rules import BYTE_MAX, ORTHOGONAL_SIZES
from mlguard.transforms.base import DerivedTransform
from mlguard.transforms.blocks import CHANNELS, block_length
from mlguard.transforms.choice import coin_flips, permutation
from mlguard.transforms.key_space import permutation_bits

ROUNDS = 2  # after two, every value depends on every other


class Orthogonal(DerivedTransform):
    """A keyed orthogonal map of the centred values of every block.

    With the centred block v = 2·b - 255, two times: put v in an order, flip signs, and
    apply the Walsh-Hadamard transform to each third of it.

    Args:
        block_size: M, in pixels; one of ORTHOGONAL_SIZES.
        orders: A permutation of 0 … 3·M²-1 for each round.
        signs: +1 or -1 for each position in each round.

    Raises:
        ValueError: Orders or signs do not have these shapes and values.

    Shape:
        orders  (2, L) int64
        signs   (2, L) float32

    Source: our own; fast random projections of permutations, signs and Hadamard steps
        go back to Ailon and Chazelle 2009, doi:10.1137/060673096.
    """

    name = "orthogonal"
    bounded: ClassVar[bool] = False

    def __init__(
        self, block_size: int, orders: NDArray[np.int64], signs: NDArray[np.float32]
    ) -> None:
        super().__init__(block_size)
        _check_size(block_size)
        shape = (ROUNDS, self.length)
        if orders.shape != shape or (np.sort(orders) != np.arange(shape[1])).any():
            raise ValueError(f"expected {ROUNDS} permutations of 0…{shape[1] - 1}")
        if signs.shape != shape or (np.abs(signs) != 1).any():
            raise ValueError(f"expected {ROUNDS} × {shape[1]} signs of +1 or -1")
        self.orders = _read_only(orders.astype(np.int64))
        self.signs = _read_only(signs.astype(np.int32))

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Derive round R from "orthogonal-order/R/…" and "orthogonal-signs/R/…"."""
        _check_size(block_size)
        length = block_length(block_size)
        use = f"m={block_size}/c={CHANNELS}"
        rounds = range(1, ROUNDS + 1)
        orders = [subkeys.derive(f"orthogonal-order/{r}/{use}") for r in rounds]
        signs = [subkeys.derive(f"orthogonal-signs/{r}/{use}") for r in rounds]
        return cls(
            block_size,
            np.stack([permutation(subkey, length) for subkey in orders]),
            np.stack([coin_flips(subkey, length) for subkey in signs]),
        )

    @staticmethod
    def key_space(block_size: int) -> float:
        """Return log2 of L!·2^L, the choices of one round alone: a lower bound."""
        length = block_length(block_size)
        return permutation_bits(length) + length

    @property
    def key_space_bits(self) -> float:
        """Return log2 of L!·2^L, a lower bound."""
        return self.key_space(self.block_size)

    @property
    def scale(self) -> float:
        """The divisor of the integers, which may be larger, or negative."""
        return float(2 * self._middle)

    @property
    def _middle(self) -> int:
        """The value of mid-grey, 127.5: 255 times the growth of ROUNDS steps."""
        growth: int = self.block_size**ROUNDS
        return BYTE_MAX * growth

    @property
    def matrix(self) -> NDArray[np.int32]:
        """Return the map of centred blocks, as whole numbers. It is key material.

        Shape:
            returns  (L, L) int32; its transpose is its inverse, times M to the 2·ROUNDS
        """
        identity = np.eye(self.length, dtype=np.int32)
        return np.ascontiguousarray(self._mixed(identity).T)

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the weight of a 1×1 convolution. Shape: (L, L, 1, 1) float32."""
        weight = self.matrix.astype(np.float32)
        return {"orthogonal.matrix": weight[:, :, None, None]}

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Centre, mix, and move mid-grey to the middle."""
        mixed: NDArray[np.int32] = self._mixed(2 * blocks - BYTE_MAX) + self._middle
        return mixed

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Undo the rounds, last to first."""
        values = blocks.astype(np.float64) - self._middle
        for order, signs in zip(self.orders[::-1], self.signs[::-1], strict=True):
            values = _hadamard(values) / self.block_size**2 * signs
            values = values[..., np.argsort(order)]
        return np.rint((values + BYTE_MAX) / 2).astype(np.int32)

    def _mixed(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        for order, signs in zip(self.orders, self.signs, strict=True):
            values = _hadamard(values[..., order] * signs)
        return values


def _hadamard(values: NDArray[Any]) -> NDArray[Any]:
    """Apply the unscaled Walsh-Hadamard transform (Sylvester's order) to each third."""
    shape, number = values.shape, values.shape[-1] // CHANNELS
    values = values.reshape(*shape[:-1], CHANNELS, number)
    step = 1
    while step < number:
        pairs = values.reshape(*values.shape[:-1], number // (2 * step), 2, step)
        one, other = pairs[..., 0, :], pairs[..., 1, :]
        values = np.stack([one + other, one - other], axis=-2).reshape(values.shape)
        step *= 2
    return values.reshape(shape)


def _check_size(block_size: int) -> None:
    if block_size not in ORTHOGONAL_SIZES:
        sizes = ", ".join(map(str, ORTHOGONAL_SIZES))
        raise ValueError(
            f"orthogonal works on blocks of {sizes} pixels, got {block_size}"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
