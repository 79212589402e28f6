"""Fold channel permutations into the layers that read the permuted feature maps.

If the columns of the layers that mix its channels are permuted likewise, and so are the
numbers of the batch norms between, the model computes under the permutation what it
computed without. Nothing is trained and nothing is lost.
"""

from collections.abc import Sequence

import torch
from torch import nn

from mlguard.errors import BindingError
from mlguard.models.binding.paths import MIXERS, ChannelPath, path_from
from mlguard.models.binding.pieces import ChannelScale
from mlguard.models.binding.traced import trace
from mlguard.models.conditions import TorchChannels
from mlguard.transforms import ChannelPermutation


def check_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, ChannelPath]:
    """Refuse layers whose channels cannot be permuted, or not all at once.

    Returns:
        For every layer, in the order they run, the path to the layers that mix it.

    Raises:
        BindingError: A layer cannot be permuted, or two layers lie on one path, where
            they act as a single permutation.
    """
    if not layers:  # then no model is refused for how it is written
        return {}
    traced = trace(model)
    paths = {name: path_from(traced, name) for name in layers}
    for name, path in paths.items():
        for other in layers:
            if other != name and traced.outputs[other][0] in path.forms:
                raise BindingError(
                    f"layers {name} and {other} go into the same convolution: two "
                    "permutations there act as one",
                    hint=f"leave out {name}",
                )
    places = {node: place for place, node in enumerate(traced.nodes())}
    return {
        name: paths[name]
        for name in sorted(paths, key=lambda name: places[traced.outputs[name][0]])
    }


@torch.no_grad()
def fold_permutations(
    model: nn.Module, changes: Sequence[ChannelPermutation]
) -> nn.Module:
    """Make a model with permuted layers compute as before, in place.

    Folding the inverses undoes it. Signs, which version 0.1 could flip, pass only
    through linear layers; its files have them nowhere else.

    Returns:
        The model.

    Raises:
        BindingError: As in `check_layers`; or an order has another number of channels.
    """
    paths = check_layers(model, [change.layer for change in changes])
    for change in changes:
        for name in paths[change.layer].norms:
            _permute_norm(model.get_submodule(name), change)
        for name in paths[change.layer].mixers:
            _permute_columns(model.get_submodule(name), change)
    return model


def _permute_columns(layer: nn.Module, change: ChannelPermutation) -> None:
    """Permute the input channels of a layer."""
    if not isinstance(layer, MIXERS):
        raise AssertionError("a path ends at layers that mix channels")
    weight = layer.weight
    if weight.shape[1] != len(change.order):
        raise BindingError(
            f"layer {change.layer} has {weight.shape[1]} channels, the permutation "
            f"is of {len(change.order)}"
        )
    columns = weight.view(*weight.shape, *[1] * (4 - weight.ndim))
    permuted = TorchChannels(change, weight.device)(columns)
    weight.copy_(permuted.view_as(weight))


def _permute_norm(layer: nn.Module, change: ChannelPermutation) -> None:
    """Permute the numbers of a layer that has one for every channel.

    A sign passes through to the output, so it flips the numbers added and subtracted.
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
            permuted = TorchChannels(change, numbers.device)(numbers.view(1, -1, 1, 1))
            numbers.copy_(permuted.flatten())
