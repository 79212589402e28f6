"""Encrypted feature maps: a keyed permutation of the channels of one layer's output.

It is the same for every pixel, so it moves nothing in the image: segmentation does not
suffer, as it does under block-wise transforms of the image. It acts inside the model,
so its order is a key slot of the model's graph. docs/spec/transforms-v1.md, section 7.

Source: Ito, AprilPyone, Kinoshita and Kiya 2021, arXiv:2109.01332; 2022,
    arXiv:2206.05422. The signs are our own.
"""

from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.transforms.choice import coin_flips, permutation
from mlguard.transforms.key_space import permutation_bits

MAX_CHANNELS = 1 << 16
MAX_LAYER_NAME = 200  # characters


class ChannelPermutation:
    """Permute the channels of a feature map, and flip the sign of some.

    It is key material, like every transform: read-only, not shown when printed, never
        pickled.

    Args:
        layer: The layer whose output is permuted, by its name in the model.
        order: Channel i of the result is channel order[i] of the feature map.
        signs: +1 or -1 for each channel of the result; None to keep every sign.

    Raises:
        ValueError: The order is not a permutation, or the signs do not match it.

    Shape:
        order  (C,) int64
        signs  (C,) float32
    """

    def __init__(
        self,
        layer: str,
        order: NDArray[np.int64],
        signs: NDArray[np.float32] | None = None,
    ) -> None:
        channels = len(order)
        if not np.array_equal(np.sort(order), np.arange(channels)):
            raise ValueError(f"expected a permutation of 0 … {channels - 1}")
        if signs is not None and (
            signs.shape != (channels,) or not (np.abs(signs) == 1).all()
        ):
            raise ValueError(f"expected {channels} signs of +1 or -1")
        self.layer = layer
        self.order = _read_only(order.astype(np.int64))
        self.signs = None if signs is None else _read_only(signs.astype(np.float32))

    @classmethod
    def derive(
        cls, subkeys: ModelSubkeys, layer: str, channels: int, *, signs: bool = False
    ) -> Self:
        """Derive the permutation of one layer of one protected model.

        Args:
            subkeys: The subkeys of the protected model.
            layer: The layer's name.
            channels: C, how many channels its output has.
            signs: Whether signs are flipped too.

        Raises:
            ValueError: C is below 1 or above 65,536, or the name is empty or too long.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"expected 1 to {MAX_CHANNELS} channels, got {channels}")
        if not 0 < len(layer) <= MAX_LAYER_NAME:
            raise ValueError(f"expected a name of 1 to {MAX_LAYER_NAME} characters")
        order = permutation(subkeys.derive(f"channels/{layer}/c={channels}"), channels)
        if not signs:
            return cls(layer, order)
        subkey = subkeys.derive(f"channel-signs/{layer}/c={channels}")
        return cls(layer, order, coin_flips(subkey, channels))

    @property
    def key_space_bits(self) -> float:
        """Return log2 of the number of different transforms that a key can choose."""
        return channels_key_space(len(self.order), signs=self.signs is not None)

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of its ONNX key slots, by slot name: key material."""
        tensors: dict[str, NDArray[Any]] = {order_slot(self.layer): self.order}
        if self.signs is not None:
            tensors[signs_slot(self.layer)] = self.signs.reshape(-1, 1, 1)
        return tensors

    def apply(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Permute a feature map; this is the reference for torch and ONNX.

        Shape:
            features  (N, C, H, W) float32
            returns   (N, C, H, W) float32
        """
        permuted = features[:, self.order]
        if self.signs is None:
            return permuted
        signed: NDArray[np.float32] = permuted * self.signs.reshape(-1, 1, 1)
        return signed

    def inverse(self) -> "ChannelPermutation":
        """Return the exact inverse."""
        order = np.argsort(self.order)
        signs = None if self.signs is None else self.signs[order]
        return ChannelPermutation(self.layer, order, signs)

    def __repr__(self) -> str:
        return f"ChannelPermutation({self.layer!r}, channels={len(self.order)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


def channels_key_space(channels: int, *, signs: bool) -> float:
    """Return the bits of choice of a permutation of `channels` channels."""
    return permutation_bits(channels) + (channels if signs else 0)


def order_slot(layer: str) -> str:
    """Return the name of the key slot that holds a layer's order."""
    return f"channels.order/{layer}"


def signs_slot(layer: str) -> str:
    """Return the name of the key slot that holds a layer's signs."""
    return f"channels.signs/{layer}"


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
