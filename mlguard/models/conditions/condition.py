"""What a user does when a model runs: to the images, and to feature maps inside it.

The owner does what the key says, a user without a key does nothing, an adversary does
what it guesses or learns. A model itself never knows: it is the same plain module in
every condition, and what is done to its feature maps is done from outside, for one
call, so that no key material can land in its parameters, its `state_dict` or a copy.
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
from mlguard.models.weights import Normalization
from mlguard.transforms import ChannelPermutation, TransformSet

Output = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Condition:
    """What is done to images and to feature maps when a model runs.

    Attributes:
        image: Takes uint8 images (N, 3, H, W), gives float32 images in [0, 1].
        features: For each layer, by its name in the model, what is done to its output
            (N, C, H, W) before any other layer sees it.
        transforms: What a key does, if that is what this is: what can fill the key
            slots of a graph. None for everything else that can be done.
    """

    image: Change = plain
    features: Mapping[str, Change] = field(default_factory=dict)
    transforms: TransformSet | None = None


NO_KEY = Condition()


def keyed(transforms: TransformSet, device: Device = "cpu") -> Condition:
    """What the holder of a key does.

    Args:
        transforms: What the key gives for the model.
        device: Where the model is.
    """
    image = transforms.image
    return Condition(
        plain if image is None else torch_transform(image, device),
        {one.layer: TorchChannels(one, device) for one in transforms.channels},
        transforms,
    )


def blended(condition: Condition, share: float) -> Condition:
    """A condition on the way from plain images to its own.

    Args:
        condition: Where the way leads.
        share: How far it has come, in [0, 1]; feature maps are as at its end.
    """
    if share >= 1:
        return condition

    def image(images: Tensor) -> Tensor:
        return torch.lerp(plain(images), condition.image(images), share)

    return Condition(image, condition.features)


def output_of(
    model: nn.Module, images: Tensor, condition: Condition, normalization: Normalization
) -> Output:
    """Run a model under a condition.

    Shape:
        images   (N, 3, H, W) uint8, on the model's device
        returns  what the model gives: logits, or torchvision's {"out": logits, …}

    Raises:
        KeyError: The condition names a layer that the model does not have.
    """
    pixels = normalization(condition.image(images))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with changed_features(model, condition.features):
        output: Output = model(pixels)
    return output


@contextmanager
def changed_features(
    model: nn.Module, features: Mapping[str, Change]
) -> Iterator[None]:
    """Change feature maps while the block runs, and leave no trace in the model.

    Raises:
        KeyError: The model has no layer of one of the names.
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
    """The layers of a model by name, whatever training has wrapped around it."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    yield from model.named_modules()


class TorchChannels:
    """Apply a channel permutation to feature maps on a device.

    Not an nn.Module, for the same reason as TorchTransform.

    Args:
        permutation: The permutation, from mlguard.transforms.
        device: Where the feature maps will be.
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
