"""Fold channel permutations into the layers that read the permuted feature maps.

If the columns of the layers that mix its channels go the way of the channels, and so do
the numbers of the batch norms between, the model computes under the permutation what it
computed without. Nothing is trained and nothing is lost.
"""

from collections.abc import Sequence

import torch
from torch import fx, nn

from mlguard.errors import BindingError
from mlguard.models.channel_paths import MIXERS, Path, layers_of, path_from
from mlguard.models.condition import TorchChannels
from mlguard.models.pieces import ChannelScale
from mlguard.models.tracing import trace
from mlguard.transforms import ChannelPermutation


def check_layers(
    model: nn.Module, layers: Sequence[str], *, signs: bool
) -> dict[str, Path]:
    """Refuse layers whose channels cannot be permuted, or not all at once.

    Returns:
        For every layer, in the order they run, what lies up to the layers that mix it.

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
                "linear comes before the next layer that mixes channels",
                hint="name the layer right before that one, or leave out signs",
            )
        for other in layers:
            if other != name and traced.outputs[other][0] in path.forms:
                raise BindingError(
                    f"layers {name} and {other} go into the same convolution: "
                    "two permutations there are no more than one",
                    hint=f"leave out {name}",
                )
    places = {node: place for place, node in enumerate(traced.nodes())}
    return {
        name: paths[name]
        for name in sorted(paths, key=lambda name: places[traced.outputs[name][0]])
    }


def every_layer(
    model: nn.Module, size: tuple[int, int], *, signs: bool
) -> tuple[str, ...]:
    """The layers of a model that can all be permuted at once, in their order.

    Of the layers that go into the same layers, the last one.

    Args:
        model: The model.
        size: Height and width of the images; pixels.
        signs: Whether signs are flipped as well.

    Raises:
        BindingError: There is none, or the model cannot be traced.
    """
    traced, chosen, taken = trace(model), list[str](), set[fx.Node]()
    for facts in reversed(layers_of(model, size)):
        if facts.refusal or facts.channels < 2 or (signs and not facts.signs):
            continue
        path = path_from(traced, facts.name)
        if taken.isdisjoint(path.forms):
            chosen.append(facts.name)
            taken.update(path.forms)
    if not chosen:
        raise BindingError("no layer of the model can be permuted")
    return tuple(reversed(chosen))


@torch.no_grad()
def fold_permutations(
    model: nn.Module, changes: Sequence[ChannelPermutation]
) -> nn.Module:
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
        for name in paths[change.layer].mixers:
            _permute_columns(model.get_submodule(name), change)
    return model


def _permute_columns(layer: nn.Module, change: ChannelPermutation) -> None:
    """Permute what a layer does to its input channels."""
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
            permuted = TorchChannels(change, numbers.device)(numbers.view(1, -1, 1, 1))
            numbers.copy_(permuted.flatten())
