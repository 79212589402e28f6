"""The keyed transforms of one model, described without a key: methods and layers.

This is the one place where subkeys become the transforms of a model, and where their
effective key space is added up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from mlguard.keys import ModelSubkeys
from mlguard.transforms.channels import ChannelPermutation, channels_key_space
from mlguard.transforms.methods import derive_transform, key_space_bits
from mlguard.transforms.passports import KeyedNorm, Passport, passport_key_space
from mlguard.transforms.transform_set import TransformSet


class KeyedLayer(NamedTuple):
    """One layer whose output the key permutes.

    Attributes:
        layer: Its name in the model.
        channels: How many channels its output has.
        signs: Whether the key flips signs too.
    """

    layer: str
    channels: int
    signs: bool


@dataclass(frozen=True)
class KeyedTransforms:
    """The choices that a key makes for one model; public, without key material.

    Attributes:
        methods: Names of METHODS, in the order they are applied; empty if the key does
            not act on images.
        block_size: M, in pixels, of the methods.
        layers: The layers whose outputs the key permutes.
        norms: The batch norms whose scale and bias the key gives.

    Example:
        >>> round(KeyedTransforms(("shf",), 4).key_space(), 1)
        202.9
    """

    methods: tuple[str, ...] = ()
    block_size: int = 1
    layers: tuple[KeyedLayer, ...] = ()
    norms: tuple[KeyedNorm, ...] = ()

    @classmethod
    def of(
        cls,
        methods: Sequence[str],
        block_size: int,
        channels: Mapping[str, int],
        *,
        signs: bool,
    ) -> Self:
        """Return such a value, with signs flipped in every layer or in none.

        Args:
            methods: As in the attribute.
            block_size: As in the attribute.
            channels: How many channels the output of each layer has, by its name.
            signs: Whether signs are flipped too.
        """
        layers = (KeyedLayer(name, count, signs) for name, count in channels.items())
        return cls(tuple(methods), block_size, tuple(layers))

    def derive(self, subkeys: ModelSubkeys) -> TransformSet:
        """Derive all transforms of the model.

        Args:
            subkeys: The subkeys of the protected model.

        Raises:
            ValueError: As in `derive_transform`, `ChannelPermutation.derive` and
                `Passport.derive`.
        """
        image = None
        if self.methods:
            image = derive_transform(self.methods, subkeys, self.block_size)
        channels = (
            ChannelPermutation.derive(subkeys, one.layer, one.channels, signs=one.signs)
            for one in self.layers
        )
        passports = (Passport.derive(subkeys, one) for one in self.norms)
        return TransformSet(image, tuple(channels), tuple(passports))

    def key_space(self, *, shown: bool = False) -> float:
        """Return the effective key space, in bits. Needs no key.

        Args:
            shown: Whether the weights reveal the transform of images, which then does
                not count.

        Raises:
            ValueError: As in `derive_transform`.
        """
        image = 0.0
        if self.methods and not shown:
            image = key_space_bits(self.methods, self.block_size)
        maps = sum(
            channels_key_space(one.channels, signs=one.signs) for one in self.layers
        )
        return image + maps + sum(map(passport_key_space, self.norms))


def derive_channels(
    subkeys: ModelSubkeys, layers: Mapping[str, int], *, signs: bool
) -> tuple[ChannelPermutation, ...]:
    """Derive the channel permutations of one protected model.

    Args:
        subkeys: The subkeys of the protected model.
        layers: How many channels the output of each layer has, by the layer's name.
        signs: Whether signs are flipped too.

    Raises:
        ValueError: As in `ChannelPermutation.derive`.
    """
    return KeyedTransforms.of((), 1, layers, signs=signs).derive(subkeys).channels
