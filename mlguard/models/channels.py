"""Fold permutations of feature maps into the layers that read them.

Channel j of a permuted output is signs[j] times channel order[j] of the plain one. If
the columns of the convolutions that read it go the same way, and so do the numbers of
the batch norms between, the model computes what it did. Nothing is trained or lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.errors import BindingError
from mlguard.models.channel_paths import Path, path_from
from mlguard.models.pieces import ChannelScale
from mlguard.models.tracing import trace


@dataclass(frozen=True)
class PermutedLayer:
    """What is done to the output of one layer. Key material.

    Attributes:
        layer: The layer's name.
        order: A permutation of 0 … C-1, (C,) int64.
        signs: 1 or -1 for every channel of the permuted output, (C,); None for all 1.
    """

    layer: str
    order: NDArray[np.int64] = field(repr=False)
    signs: NDArray[np.float32] | None = field(repr=False, default=None)

    def inverse(self) -> "PermutedLayer":
        """What undoes this, applied after it."""
        back = np.argsort(self.order)
        signs = None if self.signs is None else self.signs[back]
        return PermutedLayer(self.layer, back, signs)

    def __call__(self, features: Tensor) -> Tensor:
        """Permute a feature map. Shape: (N, C, H, W) to (N, C, H, W)."""
        order = torch.from_numpy(self.order.copy()).to(features.device)
        permuted = features.index_select(1, order)
        if self.signs is None:
            return permuted
        signs = torch.from_numpy(self.signs.copy()).to(permuted)
        return permuted * signs.view(1, -1, 1, 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a permutation is key material and is never pickled")


def check_layers(
    model: nn.Module, layers: Sequence[str], *, signs: bool
) -> dict[str, Path]:
    """Refuse layers whose channels cannot be permuted, or not all at once.

    Returns:
        For every layer, in the order they run, what lies up to its convolutions.

    Raises:
        BindingError: A layer cannot be permuted, or its signs cannot be flipped, or
            two layers lie on one path, where they amount to a single permutation.
    """
    traced = trace(model)
    paths = {name: path_from(traced, name) for name in layers}
    for name, path in paths.items():
        if signs and not path.linear:
            raise BindingError(
                f"the signs of layer {name} cannot be flipped: a layer that is not "
                "linear comes before the next convolution",
                hint="name the layer right before the convolution, or leave out signs",
            )
        for other in layers:
            if other != name and traced.outputs[other][0] in path.nodes:
                raise BindingError(
                    f"layers {name} and {other} go into the same convolution: "
                    "two permutations there are no more than one",
                    hint=f"leave out {name}",
                )
    places = {node: place for place, node in enumerate(traced.nodes())}
    return dict(sorted(paths.items(), key=lambda item: places[item[1].nodes[0]]))


@torch.no_grad()
def fold_permutations(model: nn.Module, changes: Sequence[PermutedLayer]) -> nn.Module:
    """Make a model with permuted layers compute what it computed without. In place.

    Folding the inverses undoes it.

    Returns:
        The model.

    Raises:
        BindingError: As `check_layers`; or an order has another number of channels.
    """
    signed = {change.layer for change in changes if change.signs is not None}
    names = [change.layer for change in changes]
    paths = check_layers(model, names, signs=False)
    check_layers(model, sorted(signed), signs=True)
    for change in changes:
        for name in paths[change.layer].norms:
            _permute_norm(model.get_submodule(name), change)
        for name in paths[change.layer].convolutions:
            _permute_columns(model.get_submodule(name), change)
    return model


def _permute_columns(layer: nn.Module, change: PermutedLayer) -> None:
    """Permute what a convolution does to its input channels."""
    if not isinstance(layer, nn.Conv2d):
        raise AssertionError("a path ends in convolutions")
    if layer.in_channels != len(change.order):
        raise BindingError(
            f"layer {change.layer} has {layer.in_channels} channels, the permutation "
            f"is of {len(change.order)}"
        )
    layer.weight.copy_(change(layer.weight))


def _permute_norm(layer: nn.Module, change: PermutedLayer) -> None:
    """Permute the numbers of a layer that has some for every channel.

    A sign goes through to the output, so it turns what is added and subtracted.
    """
    if isinstance(layer, nn.BatchNorm2d):
        kept, turned = (
            (layer.weight, layer.running_var),
            (layer.bias, layer.running_mean),
        )
    elif isinstance(layer, ChannelScale):
        kept, turned = (layer.weight, None), (layer.bias, None)
    else:
        raise AssertionError(f"unknown norm {type(layer).__name__}")
    order = torch.from_numpy(change.order.copy())
    for numbers in kept:
        if numbers is not None:
            numbers.copy_(numbers[order.to(numbers.device)])
    for numbers in turned:
        if numbers is not None:
            numbers.copy_(change(numbers.view(1, -1, 1, 1)).flatten())
