"""Passports: a batch norm's scale and bias that follow from weights and a key.

The scale of an output channel is the sum of its filter's weights under signs that the
key gives, its bias the same under other signs. So both are missing without the key,
and training moves them by moving the weights. docs/spec/transforms-v1.md, section 11.

Source: the scheme V1 of Fan, Ng and Chan 2019, arXiv:1909.07830, whose passport is an
    input that the convolution is applied to and averaged over. It is of one filter's
    size here, so that there is a single position to average.
"""

from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.transforms.channels import MAX_LAYER_NAME
from mlguard.transforms.choice import coin_flips

MAX_FILTER = 1 << 20  # weights of one output channel


class KeyedNorm(NamedTuple):
    """One convolution and its batch norm, whose scale and bias the key gives.

    Attributes:
        layer: The name of the convolution.
        norm: The name of the batch norm.
        length: How many weights the convolution has for one output channel.
    """

    layer: str
    norm: str
    length: int


class Passport:
    """The passport of one convolution.

    It is key material, like every transform: read-only, not shown when printed, never
        pickled.

    Args:
        where: The convolution and its batch norm.
        scale: +1 or -1 for each weight of a filter.
        bias: The same for the bias.

    Raises:
        ValueError: These are not `where.length` signs each.

    Shape:
        scale  (L,) float32, a filter's weights in the order (channel, row, column)
        bias   (L,) float32
    """

    def __init__(
        self, where: KeyedNorm, scale: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> None:
        for signs in (scale, bias):
            if signs.shape != (where.length,) or not (np.abs(signs) == 1).all():
                raise ValueError(f"expected {where.length} signs of +1 or -1")
        self.where = where
        self.scale, self.bias = (_read_only(one) for one in (scale, bias))

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, where: KeyedNorm) -> Self:
        """Derive the passport of one convolution of one protected model.

        Args:
            subkeys: The subkeys of the protected model.
            where: The convolution and its batch norm.

        Raises:
            ValueError: A filter has no weights or more than 1,048,576, or the name is
                empty or too long.
        """
        layer, _, length = where
        if not 1 <= length <= MAX_FILTER:
            raise ValueError(f"expected 1 to {MAX_FILTER} weights, got {length}")
        if not 0 < len(layer) <= MAX_LAYER_NAME:
            raise ValueError(f"expected a name of 1 to {MAX_LAYER_NAME} characters")
        scale, bias = (
            coin_flips(subkeys.derive(f"passport-{part}/{layer}/l={length}"), length)
            for part in ("scale", "bias")
        )
        return cls(where, scale, bias)

    @property
    def key_space_bits(self) -> float:
        """Return log2 of the number of different passports that a key can choose."""
        return passport_key_space(self.where)

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return its tensors by name: key material."""
        layer = self.where.layer
        return {
            f"passport.scale/{layer}": self.scale,
            f"passport.bias/{layer}": self.bias,
        }

    def apply(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scale and bias for given weights; this is the reference for torch.

        Shape:
            weights  (O, …) float32, L for each of O output channels
            returns  (O,) float32 each
        """
        filters = weights.reshape(len(weights), -1)
        return filters @ self.scale, filters @ self.bias

    def __repr__(self) -> str:
        return f"Passport({self.where.layer!r}, length={self.where.length})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


def passport_key_space(where: KeyedNorm) -> float:
    """Return the bits of choice of one passport: two signs for each weight."""
    return 2.0 * where.length


def _read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    copy = array.astype(np.float32)
    copy.flags.writeable = False
    return copy
