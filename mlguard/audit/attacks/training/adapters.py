"""Adapters, which an adversary trains to replace the key where it acts."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.reasons import nothing_moved
from mlguard.audit.attacks.search.assignment import assign
from mlguard.models import Condition
from mlguard.models.conditions import cut, join, plain
from mlguard.transforms.blocks import block_length

MAX_LENGTH = (
    4096  # values of a block, or channels; an adapter has its square in weights
)


class BlockAdapter(nn.Module):
    """One L×L matrix and an offset, the same for every block; at first the identity.

    `shf` and `np` are of this form, so a perfect one is a key. `ffx` is not.
    """

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self._block_size = block_size
        length = block_length(block_size)
        self.matrix = nn.Parameter(torch.eye(length))
        self.offset = nn.Parameter(torch.zeros(length))

    def forward(self, images: Tensor) -> Tensor:
        """Return the input of the stolen model.

        Shape:
            images   (N, 3, H, W) uint8
            returns  (N, 3, H, W) float32
        """
        blocks = cut(plain(images), self._block_size)
        adapted = blocks @ self.matrix.T + self.offset
        return join(adapted, self._block_size, images.shape[-2:])


class FeatureAdapter(nn.Module):
    """One C×C matrix, the same at every pixel of a feature map; at first the identity.

    A channel permutation is of this form, signs included.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the input of the next layers. Shape: (N, C, H, W) to (N, C, H, W)."""
        return nn.functional.conv2d(features, self.matrix[:, :, None, None])


@dataclass(frozen=True)
class Adapters:
    """One adapter for every place where the key acts.

    Attributes:
        name: The name of this set, as a variant of an attack.
        image: The adapter that replaces the image transform, if there is one.
        features: The adapters that replace channel permutations, by layer.
    """

    name: str
    image: BlockAdapter | None
    features: dict[str, FeatureAdapter] = field(default_factory=dict)

    @classmethod
    def of(cls, scene: Scene) -> "Adapters":
        """Return the adapters for a scene's methods, on its device."""
        spec, device = scene.spec, scene.stolen.device
        image = BlockAdapter(spec.block_size).to(device) if spec.image_methods else None
        features = {
            layer: FeatureAdapter(channels).to(device)
            for layer, channels in feature_maps(scene).items()
        }
        if image is None:
            return cls("feature adapter", None, features)
        return cls("joint adapters" if features else "block adapter", image, features)

    @property
    def condition(self) -> Condition:
        """Return the condition that applies the adapters."""
        if self.image is None:
            return Condition(features=self.features)
        return Condition(self.image, self.features)

    @torch.no_grad()
    def rounded(self) -> "Adapters":
        """Return the nearest signed permutations: key material if right."""
        image = copy.deepcopy(self.image)
        if image is not None:
            matrix = _signed_permutation(image.matrix)
            image.matrix.copy_(matrix)
            # An inverted value v becomes 1 - v.
            image.offset.copy_((matrix.sum(1) < 0).to(matrix))
        features = copy.deepcopy(self.features)
        for adapter in features.values():
            adapter.matrix.copy_(_signed_permutation(adapter.matrix))
        return Adapters(self.name, image, features)

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters to learn."""
        parts = [self.image] if self.image is not None else []
        return [
            parameter
            for part in (*parts, *self.features.values())
            for parameter in part.parameters()
        ]


def _signed_permutation(matrix: Tensor) -> Tensor:
    """Return the largest entries, one in each row and column, as +1 or -1."""
    values = matrix.detach().double().cpu().numpy()
    rows, order = np.arange(len(values)), assign(np.abs(values))
    signs = np.where(values[rows, order] < 0, -1.0, 1.0)
    nearest = np.zeros_like(values)
    nearest[rows, order] = signs
    return torch.from_numpy(nearest).to(matrix)


def too_large(scene: Scene) -> str:
    """Return why there are no adapters for a scene; empty if there are."""
    spec = scene.spec
    if why := nothing_moved(spec):
        return why
    if spec.image_methods and block_length(spec.block_size) > MAX_LENGTH:
        return f"too large a matrix for {spec.block_size}×{spec.block_size} blocks"
    for layer, channels in feature_maps(scene).items():
        if channels > MAX_LENGTH:
            return f"too large a matrix for the {channels} channels of {layer}"
    return ""


def feature_maps(scene: Scene) -> dict[str, int]:
    """Return the number of channels of every permuted feature map."""
    height, width = scene.pool.images.shape[-2:]
    return scene.stolen.channels(scene.spec.layers, (height, width))
