"""The feature maps of a model, which a recipe's `transform.layers` can name."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlguard.errors import RecipeError
from mlguard.models.detectors import network_of

LARGER = 512  # pixels per side; the number of channels does not depend on it
UNKNOWN = "`mlguard layers RECIPE` lists the layers of a recipe's model"


def feature_channels(
    model: nn.Module, layers: Sequence[str], size: tuple[int, int]
) -> dict[str, int]:
    """Return how many channels the outputs of layers have, without computing anything.

    Args:
        model: A model on any device, or one of torchvision's detectors; it is not
            changed.
        layers: Their names in the model.
        size: Height and width of an image, in pixels.

    Raises:
        RecipeError: The layer does not exist, is not used exactly once, or its output
            is not one feature map (N, C, H, W).
    """
    if not layers:
        return {}
    hollow = copy.deepcopy(network_of(model)).to("meta").eval()
    named = dict(hollow.named_modules())
    outputs: dict[str, list[object]] = {name: [] for name in layers}
    problems = [
        f"transform.layers: the model has no layer {name!r}; {UNKNOWN}"
        for name in layers
        if name not in named
    ]
    if problems:
        raise RecipeError("transform", problems)
    for name in layers:
        named[name].register_forward_hook(
            lambda _layer, _inputs, output, name=name: outputs[name].append(output)
        )
    with torch.inference_mode():
        hollow(torch.empty(2, 3, *size, device="meta"))
    problems = [problem for name in layers if (problem := _unfit(name, outputs[name]))]
    if problems:
        raise RecipeError("transform", problems)
    found = {name: _channels(outputs[name]) for name in layers}
    larger = tuple(side + LARGER for side in size)
    try:
        with torch.inference_mode():
            hollow(torch.empty(2, 3, *larger, device="meta"))
    except (RuntimeError, AssertionError):  # a model of images of one size
        return found
    problems = [
        f"transform.layers: the channels of the output of {name!r} are not its second "
        f"axis, as in a feature map (N, C, H, W); {UNKNOWN}"
        for name in layers
        if _channels(outputs[name][-1:]) != found[name]
    ]
    if problems:
        raise RecipeError("transform", problems)
    return found


def _unfit(name: str, outputs: list[object]) -> str:
    if len(outputs) != 1:
        return (
            f"transform.layers: the model uses the layer {name!r} {len(outputs)} times "
            "for an image, expected once"
        )
    output = outputs[0]
    if not isinstance(output, Tensor) or output.dim() != 4:
        return (
            f"transform.layers: the output of {name!r} is not a feature map "
            f"(N, C, H, W); {UNKNOWN}"
        )
    return ""


def _channels(outputs: list[object]) -> int:
    (output,) = outputs
    assert isinstance(output, Tensor)
    return output.shape[1]
