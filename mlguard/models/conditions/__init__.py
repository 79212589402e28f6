"""Conditions: what is done to images and feature maps when a model runs."""

from mlguard.models.conditions.blocks import cut, join
from mlguard.models.conditions.condition import (
    NO_KEY,
    Condition,
    Output,
    TorchChannels,
    blended,
    changed_features,
    keyed,
    output_of,
)
from mlguard.models.conditions.feature_maps import feature_channels
from mlguard.models.conditions.image_transforms import (
    Change,
    TorchTransform,
    plain,
    torch_transform,
)

__all__ = [
    "NO_KEY",
    "Change",
    "Condition",
    "Output",
    "TorchChannels",
    "TorchTransform",
    "blended",
    "changed_features",
    "cut",
    "feature_channels",
    "join",
    "keyed",
    "output_of",
    "plain",
    "torch_transform",
]
