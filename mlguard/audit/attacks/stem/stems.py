"""The stem, the layer that reads whole blocks, where a key can be folded in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.models import readers
from mlguard.models.binding import LiftedStem
from mlguard.models.conditions import cut
from mlguard.transforms.blocks import CHANNELS


@dataclass(frozen=True)
class StemWeight:
    """The weight of a layer whose windows are whole blocks.

    Attributes:
        name: The name of the layer in its model.
        weight: The weight, (O, 3, h·M, w·M).
    """

    name: str
    weight: Tensor

    def in_ancestor(self, public: Mapping[str, Tensor]) -> Tensor | None:
        """Return the same weight of a plain model; None if it has none."""
        return public.get(f"{self.name}.weight")


def stem_weight(model: nn.Module, block_size: int) -> StemWeight | None:
    """Find the layer that reads whole blocks; None if there is none."""
    names = readers(model, "")
    if len(names) != 1:
        return None
    name, layer = names[0], model.get_submodule(names[0])
    if isinstance(layer, LiftedStem):
        name, layer = f"{name}.windows", layer.windows
    if not isinstance(layer, nn.Conv2d) or layer.in_channels != CHANNELS:
        return None
    (height, width), stride = layer.kernel_size, layer.stride
    whole = height % block_size == width % block_size == 0
    aligned = stride[0] % block_size == stride[1] % block_size == 0
    padded = layer.padding not in ((0, 0), "valid")
    if not whole or not aligned or padded:
        return None
    return StemWeight(name, layer.weight)


def block_columns(
    weight: Tensor, block_size: int, std: Sequence[float] = (1.0, 1.0, 1.0)
) -> NDArray[np.float64]:
    """Return the columns of a stem for each position of a block, over all its blocks.

    Args:
        weight: The weight of the stem.
        block_size: M, in pixels.
        std: The standard deviation of the normalization, one number for each channel.

    Shape:
        weight   (O, 3, h·M, w·M)
        returns  (L, O·h·w)
    """
    values = weight.detach().double().cpu()
    values = values / torch.tensor(std, dtype=torch.float64).view(1, -1, 1, 1)
    blocks = cut(values, block_size)
    return np.asarray(blocks.flatten(0, 1).T.numpy())
