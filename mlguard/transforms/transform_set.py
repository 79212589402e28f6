"""All transforms of one model under one key: of images and of feature maps."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlguard.transforms.base import Transform
from mlguard.transforms.channels import ChannelPermutation


@dataclass(frozen=True)
class TransformSet:
    """The transforms of one protected model. They are key material.

    The papers call it a secret key set: each transform has a subkey of its own.

    Attributes:
        image: The transform of images; None if the key does not act on them.
        channels: The transforms of the outputs of layers, one for each layer.
    """

    image: Transform | None = None
    channels: tuple[ChannelPermutation, ...] = ()

    @property
    def key_space_bits(self) -> float:
        """Return the sum, since every transform has subkeys of its own."""
        image = 0.0 if self.image is None else self.image.key_space_bits
        return image + self.channel_bits

    @property
    def channel_bits(self) -> float:
        """Return the bits of the feature maps alone; the stem may reveal the rest."""
        return sum(one.key_space_bits for one in self.channels)

    @property
    def block_size(self) -> int:
        """M, in pixels; 1 if the key does not act on images."""
        return 1 if self.image is None else self.image.block_size

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of all key slots, by slot name. They are key material."""
        image = {} if self.image is None else self.image.slots()
        return image | self.channel_slots()

    def channel_slots(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of the key slots inside the model, by slot name."""
        return {
            name: tensor
            for one in self.channels
            for name, tensor in one.slots().items()
        }
