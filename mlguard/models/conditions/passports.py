"""The torch back-end of passports, for training and evaluation on any device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor, nn

from mlguard.models.conditions.image_transforms import Change, Device
from mlguard.transforms import Passport


class TorchPassport:
    """Give a batch norm its scale and bias on a device.

    It is not an nn.Module, for the same reason as TorchTransform.

    Args:
        passport: The passport, from mlguard.transforms.
        device: The device of the model.
    """

    def __init__(self, passport: Passport, device: Device = "cpu") -> None:
        self.where = passport.where
        signs = torch.from_numpy(passport.scale.copy())
        others = torch.from_numpy(passport.bias.copy())
        self._signs = torch.stack([signs, others], dim=1).to(device)

    def with_weights(self, weights: Tensor) -> Change:
        """Return what is done to the output of the batch norm.

        Args:
            weights: Those of the convolution, which learn through it.

        Shape:
            weights  (O, …) float32
        """
        scale, bias = (weights.flatten(1).float() @ self._signs).unbind(1)
        scale, bias = scale.view(-1, 1, 1), bias.view(-1, 1, 1)

        def change(features: Tensor) -> Tensor:
            return features * scale.to(features) + bias.to(features)

        return change

    def __repr__(self) -> str:
        return f"TorchPassport({self.where.layer!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


@contextmanager
def scaled_norms(
    layers: dict[str, nn.Module], passports: Sequence[TorchPassport]
) -> Iterator[None]:
    """Give batch norms scale and bias while the block runs, without a trace in them.

    Args:
        layers: The layers of the model, by name.
        passports: The passports.

    Raises:
        KeyError: One of the layers is not in the model.
    """
    hooks = []
    for one in passports:
        convolution, norm = layers[one.where.layer], layers[one.where.norm]
        assert isinstance(convolution, nn.Conv2d)
        hooks.append(_hook(norm, one.with_weights(convolution.weight)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(layer: nn.Module, change: Change) -> torch.utils.hooks.RemovableHandle:
    return layer.register_forward_hook(lambda _layer, _inputs, output: change(output))
