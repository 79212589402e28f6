"""Decoders: from the feature maps of an encoder to class scores.

They take the maps from fine to coarse and score at the resolution of the finest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlguard.models.architectures.sizes import resize

BINS = (1, 2, 3, 6)  # regions per side that the coarsest map is averaged over
DROPOUT = 0.1  # before the class scores


class FCNDecoder(nn.Module):
    """A decoder that brings every map to one width and sums from coarse to fine.

    Args:
        channels: The channels of the maps, from fine to coarse.
        width: The channels that they are brought to.
        classes: Number of classes.

    Source: Long, Shelhamer and Darrell 2015, arXiv:1411.4038 (skip connections).
    """

    def __init__(self, channels: Sequence[int], *, width: int, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(convolution(one, width, 1) for one in channels)
        self.classifier = nn.Sequential(
            convolution(width, width, 3),
            nn.Dropout(DROPOUT),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Score the finest map. Shape: [(N, C, h, w), …] to (N, classes, h, w)."""
        lateral = [one(m) for one, m in zip(self.lateral, maps, strict=True)]
        *_, finest = summed(lateral)
        logits: Tensor = self.classifier(finest)
        return logits


class UPerDecoder(nn.Module):
    """A decoder with pyramid pooling of the coarsest map and a fused feature pyramid.

    Args:
        channels: The channels of the maps, from fine to coarse.
        width: Channels inside the decoder.
        classes: Number of classes.

    Source: Xiao et al. 2018, arXiv:1807.10221 (UPerNet, here with one task and without
        its auxiliary head); Zhao et al. 2017, arXiv:1612.01105 (pyramid pooling).
    """

    def __init__(self, channels: Sequence[int], *, width: int, classes: int) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.lateral = nn.ModuleList(convolution(one, width, 1) for one in finer)
        self.pyramid = PyramidPooling(coarsest, width)
        self.smooth = nn.ModuleList(convolution(width, width, 3) for _ in finer)
        self.fusion = convolution(len(channels) * width, width, 3)
        self.classifier = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Conv2d(width, classes, 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Score the finest map. Shape: [(N, C, h, w), …] to (N, classes, h, w)."""
        *finer, coarsest = maps
        lateral = [one(m) for one, m in zip(self.lateral, finer, strict=True)]
        pooled, *added = summed([*lateral, self.pyramid(coarsest)])
        smoothed = [one(m) for one, m in zip(self.smooth, reversed(added), strict=True)]
        finest = smoothed[0]
        fused = self.fusion(
            torch.cat([resize(one, finest) for one in (*smoothed, pooled)], dim=1)
        )
        logits: Tensor = self.classifier(fused)
        return logits


class PyramidPooling(nn.Module):
    """Pyramid pooling: a map beside its averages over 1, 4, 9 and 36 regions.

    Shape:
        features (N, channels, h, w) float32
        returns  (N, width, h, w) float32
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(convolution(channels, width, 1) for _ in BINS)
        self.joined = convolution(channels + len(BINS) * width, width, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Pool and join."""
        branches = zip(BINS, self.branches, strict=True)
        pooled = [
            resize(branch(region_means(features, bins)), features)
            for bins, branch in branches
        ]
        joined: Tensor = self.joined(torch.cat([features, *pooled], dim=1))
        return joined


def region_means(features: Tensor, bins: int) -> Tensor:
    """Average a map over bins × bins regions.

    Regions and means are those of torch's adaptive average pooling, which cannot be
    exported for maps of free size.

    Shape:
        features (N, C, h, w) float32
        returns  (N, C, bins, bins) float32
    """
    rows = _region_weights(features, features.shape[2], bins)
    columns = _region_weights(features, features.shape[3], bins)
    return rows @ features @ columns.transpose(0, 1)


def _region_weights(features: Tensor, side: int, bins: int) -> Tensor:
    """Return the mean over region i as row i of a matrix (bins, side)."""
    place = torch.arange(side, device=features.device)
    first = torch.arange(bins, device=features.device)[:, None]
    length = torch.full((), side, device=features.device)
    # Region i is floor(i side / bins) ≤ place < ceil((i + 1) side / bins).
    inside = ((place + 1) * bins > first * length) & (
        place * bins < (first + 1) * length
    )
    weights = inside.to(features.dtype)
    return weights / weights.sum(1, keepdim=True)


def convolution(channels: int, width: int, size: int) -> nn.Sequential:
    """Return a convolution that keeps height and width, with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def summed(maps: Sequence[Tensor]) -> list[Tensor]:
    """Add to every map the sum of all coarser ones, and return coarse to fine."""
    *finer, coarsest = maps
    sums = [coarsest]
    for finer_map in reversed(finer):
        sums.append(finer_map + resize(sums[-1], finer_map))
    return sums
