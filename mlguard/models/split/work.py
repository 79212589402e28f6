"""Compute the client's share of a split model's arithmetic."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlguard.models.split.sliced import Sliced


@dataclass(frozen=True)
class Share:
    """Multiply-adds of the convolutions and linear layers, for one image.

    Attributes:
        client: Those of the private half.
        host: Those of the backbone.
    """

    client: int
    host: int

    @property
    def of_client(self) -> float:
        """The client's share of all, in [0, 1]."""
        return self.client / (self.client + self.host)


def share_of(model: Sliced, size: tuple[int, int]) -> Share:
    """Return what each half computes for an image.

    Args:
        model: A model on any device.
        size: Height and width of the image, in pixels.
    """
    device = next(model.parameters()).device
    pixels = torch.zeros(1, 3, *size, device=device)
    with torch.inference_mode():
        maps = model.backbone(pixels)
    return Share(
        client=multiply_adds(model.private, pixels, maps),
        host=multiply_adds(model.backbone, pixels),
    )


@torch.inference_mode()
def multiply_adds(module: nn.Module, *inputs: object) -> int:
    """Count the multiply-adds of a module's convolutions and linear layers."""
    counted = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal counted
        weight = layer.weight
        if not isinstance(weight, Tensor):
            raise AssertionError("a convolution without weights")
        counted += output[0].numel() * weight[0].numel()

    kinds = (nn.Conv2d, nn.Linear)
    layers = [one for one in module.modules() if isinstance(one, kinds)]
    hooks = [one.register_forward_hook(count) for one in layers]
    training = module.training
    try:
        module.eval()(*inputs)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return counted
