"""Key the feature maps of any module: permute the channels of named layers.

For models that no recipe makes, object detectors among them. A permutation acts while
the model runs and leaves no trace in it: train under it, or fold it into a model that
is already trained (`fold_permutations`).

Source: arXiv:2202.00265 and arXiv:2209.14831 for detectors; arXiv:2109.01332 and
    arXiv:2206.05422 for segmentation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from mlguard.errors import BindingError, RecipeError
from mlguard.keys import ModelSubkeys
from mlguard.models import feature_channels
from mlguard.models.conditions import changed_features, keyed
from mlguard.protect.export import REFUSALS, cause_of
from mlguard.transforms import ChannelPermutation, TransformSet, derive_channels

FIELD, HINT = "transform.layers: ", "; `mlguard layers"  # of a recipe's refusal


def channel_permutations(
    module: nn.Module,
    layers: Sequence[str],
    subkeys: ModelSubkeys,
    *,
    size: tuple[int, int],
) -> tuple[ChannelPermutation, ...]:
    """Derive the permutations of the feature maps of named layers.

    Args:
        module: A model of images or one of torchvision's detectors; it is not changed.
        layers: The layers' names in the module.
        subkeys: The subkeys of the protected model, `key.for_model(protection_id)`.
            Another protection id gives other permutations: keep it with the weights.
        size: Height and width of an image, in pixels.

    Raises:
        BindingError: No layer is named, or one does not exist, is not used exactly once
            or does not return one feature map (N, C, H, W).
    """
    if not layers:
        raise BindingError("no layer is named whose feature map is to be permuted")
    try:
        channels = feature_channels(module, layers, size)
    except RecipeError as error:
        problems = [one.removeprefix(FIELD).split(HINT)[0] for one in error.problems]
        raise BindingError(
            "; ".join(problems), hint="`layers_of(module, size)` lists the layers"
        ) from None
    except REFUSALS as refusal:
        raise BindingError(
            f"the model does not run on an image of {size[0]} x {size[1]} pixels: "
            f"{cause_of(refusal)}"
        ) from None
    return derive_channels(subkeys, channels, signs=False)


@contextmanager
def permuted(
    module: nn.Module,
    permutations: Sequence[ChannelPermutation],
    *,
    device: torch.device | str = "cpu",
) -> Iterator[None]:
    """Permute the feature maps of a module while the block runs.

    Training, prediction and `bind` inside the block are those of the owner, who has the
    key. A bundle that `bind` writes inside it holds the orders, sealed like every
    weight.

    Args:
        module: The module that the permutations were derived for.
        permutations: From `channel_permutations`.
        device: The device of the module.

    Raises:
        BindingError: The module does not have one of the layers.
    """
    names = {name for name, _ in module.named_modules()}
    for one in permutations:
        if one.layer not in names:
            raise BindingError(f"the model has no layer {one.layer!r}")
    condition = keyed(TransformSet(channels=tuple(permutations)), device)
    with changed_features(module, condition.features):
        yield
