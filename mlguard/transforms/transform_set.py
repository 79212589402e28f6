"""All transforms of one model under one key: of images and inside the model."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlguard.transforms.base import Transform
from mlguard.transforms.channels import ChannelPermutation
from mlguard.transforms.passports import Passport


@dataclass(frozen=True)
class TransformSet:
    """The transforms of one protected model. They are key material.

    The papers call it a secret key set: each transform has a subkey of its own.

    Attributes:
        image: The transform of images; None if the key does not act on them.
        channels: The transforms of the outputs of layers, one for each layer.
        passports: What gives batch norms their scale and bias, one for each.
    """

    image: Transform | None = None
    channels: tuple[ChannelPermutation, ...] = ()
    passports: tuple[Passport, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the key does nothing."""
        return self.image is None and not self.channels and not self.passports

    @property
    def key_space_bits(self) -> float:
        """Return the sum, since every transform has subkeys of its own."""
        image = 0.0 if self.image is None else self.image.key_space_bits
        passports = sum(one.key_space_bits for one in self.passports)
        return image + self.channel_bits + passports

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
        passports = (one.slots() for one in self.passports)
        inside = self.channel_slots(), *passports
        return image | {n: t for slots in inside for n, t in slots.items()}

    def channel_slots(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of the key slots inside the model, by slot name."""
        return {
            name: tensor
            for one in self.channels
            for name, tensor in one.slots().items()
        }
