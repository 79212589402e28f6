"""Softened keys, which a gradient can move, and which are rounded at the end.

An order becomes a matrix whose rows and columns sum to one; a mask becomes shares
between 0 and 1. As they cool, they approach a real order and a real mask. The result is
key material if it is right: it stays in memory.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.search.assignment import Order, assign
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.training.adapters import feature_maps
from mlguard.models import Condition
from mlguard.models.conditions import cut, join, plain
from mlguard.rules import BYTE_MAX
from mlguard.transforms import ChannelPermutation, TransformSet

HOT, COLD = 1.0, 0.05  # temperatures at the first and the last step
ROUNDS = 20  # rounds of Sinkhorn's iteration
START = 0.01  # spread of the initial numbers


class SoftOrder(nn.Module):
    """A softened permutation: doubly stochastic, by Sinkhorn's iteration.

    Source: Mena et al. 2018, arXiv:1802.08665.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(START * torch.randn(length, length))
        self.temperature = HOT

    def matrix(self) -> Tensor:
        """Return the matrix, whose rows and columns sum to one. Shape: (n, n)."""
        logs = self.numbers / self.temperature
        for _ in range(ROUNDS):
            logs = logs - logs.logsumexp(1, keepdim=True)
            logs = logs - logs.logsumexp(0, keepdim=True)
        return logs.exp()

    def order(self) -> Order:
        """Return the nearest permutation."""
        return assign(_numpy(self.matrix()))


class SoftMask(nn.Module):
    """A softened mask."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(START * torch.randn(length))
        self.temperature = HOT

    def shares(self) -> Tensor:
        """Return how far each position is masked. Shape: (L,)."""
        return (self.numbers / self.temperature).sigmoid()

    def mask(self) -> Order:
        """Return the half that is masked most, as zeros and ones."""
        ranks = np.argsort(np.argsort(-_numpy(self.numbers), kind="stable"))
        return np.asarray(ranks < len(ranks) // 2, dtype=np.int64)


class SoftImage(nn.Module):
    """A softened guess of an image transform; `ffx` only alone, with its table."""

    def __init__(self, space: GuessSpace) -> None:
        super().__init__()
        self._space = space
        self.rows = nn.ModuleList(
            SoftOrder(space.length) if method == "shf" else SoftMask(space.length)
            for method in space.methods
        )

    def forward(self, images: Tensor) -> Tensor:
        """Transform. Shape: (N, 3, H, W) uint8 to (N, 3, H, W) float32."""
        values = cut(plain(images), self._space.block_size)
        for method, row in zip(self._space.methods, self.rows, strict=True):
            if isinstance(row, SoftOrder):
                values = values @ row.matrix().T
                continue
            assert isinstance(row, SoftMask)
            masked, rest = 1 - values, values
            if method == "ffx":
                masked, rest = self._encrypted(values)
            values = rest + (masked - rest) * row.shares()
        return join(values, self._space.block_size, images.shape[-2:])

    def _encrypted(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of `ffx` for encrypted and other positions."""
        known = self._space.table
        assert known is not None
        scale = int(known.max())
        table = torch.from_numpy(known.copy()).to(values.device).float()
        whole = (values * BYTE_MAX).round()
        return table[whole.long()] / scale, whole / scale

    def transforms(self) -> TransformSet:
        """Return the nearest guess."""
        rows = [
            row.order() if isinstance(row, SoftOrder) else _mask_of(row)
            for row in self.rows
        ]
        return TransformSet(self._space.transform(np.stack(rows)))


class SoftChannels(nn.Module):
    """A softened guess of a channel permutation, with signs or without."""

    def __init__(self, channels: int, *, signed: bool) -> None:
        super().__init__()
        self.order = SoftOrder(channels)
        start = START * torch.randn(channels, channels) if signed else None
        self.signs = None if start is None else nn.Parameter(start)

    def forward(self, features: Tensor) -> Tensor:
        """Permute. Shape: (N, C, H, W) to (N, C, H, W)."""
        matrix = self.order.matrix()
        if self.signs is not None:
            matrix = matrix * self.signs.div(self.order.temperature).tanh()
        return nn.functional.conv2d(features, matrix[:, :, None, None])

    def permutation(self, layer: str) -> ChannelPermutation:
        """Return the nearest permutation of a layer's output."""
        order = self.order.order()
        if self.signs is None:
            return ChannelPermutation(layer, order)
        chosen = _numpy(self.signs)[np.arange(len(order)), order]
        signs = np.where(chosen < 0, -1, 1).astype(np.float32)
        return ChannelPermutation(layer, order, signs)


class SoftKey(nn.Module):
    """All transforms of one key, softened.

    Args:
        scene: The scene, which names the transforms.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        spec = scene.spec
        space = GuessSpace.of(spec, scene.leaks.table())
        self.image = SoftImage(space) if spec.image_methods else None
        channels = feature_maps(scene)
        self._layers = tuple(channels)
        self.channels = nn.ModuleList(
            SoftChannels(number, signed=spec.signs) for number in channels.values()
        )

    @property
    def condition(self) -> Condition:
        """Return the condition that applies it."""
        features = dict(zip(self._layers, self.channels, strict=True))
        return Condition(plain if self.image is None else self.image, features)

    def cool(self, progress: float) -> None:
        """Set the temperature.

        Args:
            progress: From 0 at the first step to 1 after the last.
        """
        temperature = HOT * math.pow(COLD / HOT, progress)
        for part in self.modules():
            if isinstance(part, SoftOrder | SoftMask):
                part.temperature = temperature

    def transforms(self) -> TransformSet:
        """Return the nearest real transforms."""
        image = None if self.image is None else self.image.transforms().image
        channels = []
        for layer, soft in zip(self._layers, self.channels, strict=True):
            assert isinstance(soft, SoftChannels)
            channels.append(soft.permutation(layer))
        return TransformSet(image, tuple(channels))


def _mask_of(row: nn.Module) -> Order:
    assert isinstance(row, SoftMask)
    return row.mask()


def _numpy(numbers: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(numbers.detach().double().cpu().numpy())
