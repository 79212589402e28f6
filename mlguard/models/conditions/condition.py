"""A condition: what a user does to images and feature maps when a model runs.

The owner applies the key's transforms, a user without a key applies none, an adversary
applies what it guesses or learns. The model itself does not change: it is the same
plain module in every condition, and its feature maps are changed from outside, for one
call, so that no key material can end up in its parameters, its `state_dict` or a copy.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor, nn

from mlguard.models.conditions.image_transforms import (
    Change,
    Device,
    plain,
    torch_transform,
)
from mlguard.models.conditions.passports import TorchPassport, scaled_norms
from mlguard.models.weights import Normalization
from mlguard.transforms import ChannelPermutation, TransformSet

Output = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Condition:
    """What is done to images and to feature maps when a model runs.

    Attributes:
        image: A function of uint8 images (N, 3, H, W) to float32 images in [0, 1].
        features: For each layer, by its name in the model, a function of its output (N,
            C, H, W), applied before any other layer reads it.
        passports: What gives batch norms their scale and bias.
        transforms: The transforms of a key, which can fill the key slots of a graph;
            None if the condition comes from no key.
    """

    image: Change = plain
    features: Mapping[str, Change] = field(default_factory=dict)
    passports: tuple[TorchPassport, ...] = ()
    transforms: TransformSet | None = None


NO_KEY = Condition()


def keyed(transforms: TransformSet, device: Device = "cpu") -> Condition:
    """Return the condition of a user with a key.

    Args:
        transforms: The key's transforms of the model.
        device: The device of the model.
    """
    image = transforms.image
    return Condition(
        plain if image is None else torch_transform(image, device),
        {one.layer: TorchChannels(one, device) for one in transforms.channels},
        tuple(TorchPassport(one, device) for one in transforms.passports),
        transforms,
    )


def blended(condition: Condition, share: float) -> Condition:
    """Return a mixture of plain images and a condition's images.

    Args:
        condition: The condition.
        share: The condition's share, in [0, 1]; feature maps are always the
            condition's.
    """
    if share >= 1:
        return condition

    def image(images: Tensor) -> Tensor:
        return torch.lerp(plain(images), condition.image(images), share)

    return Condition(image, condition.features, condition.passports)


def output_of(
    model: nn.Module, images: Tensor, condition: Condition, normalization: Normalization
) -> Output:
    """Run a model under a condition.

    Shape:
        images   (N, 3, H, W) uint8, on the model's device
        returns  the model's output: logits, or torchvision's {"out": logits, …}

    Raises:
        KeyError: The condition names a layer that the model does not have.
    """
    pixels = normalization(condition.image(images))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    layers = dict(named_layers(model)) if condition.passports else {}
    with (
        changed_features(model, condition.features),
        scaled_norms(layers, condition.passports),
    ):
        output: Output = model(pixels)
    return output


@contextmanager
def changed_features(
    model: nn.Module, features: Mapping[str, Change]
) -> Iterator[None]:
    """Change feature maps while the block runs, without a trace in the model.

    Raises:
        KeyError: One of the names is not a layer of the model.
    """
    layers = dict(named_layers(model)) if features else {}
    hooks = [
        layers[name].register_forward_hook(
            lambda _layer, _inputs, output, change=change: change(output)
        )
        for name, change in features.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the layers of a model by name, whatever training has wrapped around it."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    yield from model.named_modules()


class TorchChannels:
    """Apply a channel permutation to feature maps on a device.

    It is not an nn.Module, for the same reason as TorchTransform.

    Args:
        permutation: The permutation, from mlguard.transforms.
        device: The device of the feature maps.
    """

    def __init__(self, permutation: ChannelPermutation, device: Device = "cpu") -> None:
        self._layer = permutation.layer
        self._order = torch.from_numpy(permutation.order.copy()).to(device)
        signs = permutation.signs
        self._signs = None if signs is None else _column(signs.copy()).to(device)

    def __call__(self, features: Tensor) -> Tensor:
        """Permute channels. Shape: (N, C, H, W) to (N, C, H, W)."""
        permuted = features.index_select(1, self._order)
        if self._signs is None:
            return permuted
        return permuted * self._signs.to(permuted.dtype)

    def __repr__(self) -> str:
        return f"TorchChannels({self._layer!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


def _column(signs: object) -> Tensor:
    return torch.as_tensor(signs).view(-1, 1, 1)
