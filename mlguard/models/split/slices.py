"""The private half: slices beside a frozen encoder, and a decoder or a classifier.

A slice reads one feature map of the backbone and the output of the previous slice on
the finer ones. The first one may read the image itself. Slices are narrow where maps
are large and wide where they are small, where a multiply-add helps most.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlguard.models.split.backbones import MapFacts

EXPANSION = 2  # inner width of a block, as a multiple of its own
DROPOUT = 0.1  # before the class scores


class Slices(nn.Module):
    """One slice for each map, from fine to coarse, and a side network on the image.

    Args:
        maps: The backbone's maps.
        widths: The channels of each slice.
        side: The channels of the first layer on the image; 0 to leave the image out.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        maps     the backbone's
        returns  a list of (N, width, h, w) float32, of the maps' heights and widths
    """

    def __init__(
        self, maps: Sequence[MapFacts], widths: Sequence[int], side: int
    ) -> None:
        super().__init__()
        self.stem = _stem(maps[0].stride, side, widths[0]) if side else None
        self.project = nn.ModuleList(
            _convolution(one.channels, width, 1, act=False)
            for one, width in zip(maps, widths, strict=True)
        )
        strides = [one.stride for one in maps]
        steps = [after // before for before, after in itertools.pairwise(strides)]
        self.down = nn.ModuleList(
            _lighter(before, after, step)
            for before, after, step in zip(widths, widths[1:], steps, strict=False)
        )
        self.blocks = nn.ModuleList(Block(width) for width in widths)

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Run the slices."""
        before = None if self.stem is None else self.stem(pixels)
        found = []
        for index, one in enumerate(maps):
            now = self.project[index](one)
            if before is not None:
                now = now + before
            now = self.blocks[index](F.relu(now))
            found.append(now)
            if index < len(self.down):
                before = self.down[index](now)
        return found


class Segmenter(nn.Module):
    """Slices and a decoder: a class for every pixel.

    Args: as in `Slices`.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        maps     the backbone's
        returns  (N, classes, H, W) float32
    """

    def __init__(
        self, maps: Sequence[MapFacts], widths: Sequence[int], side: int, classes: int
    ) -> None:
        super().__init__()
        self.slices = Slices(maps, widths, side)
        self.narrow = nn.ModuleList(
            _convolution(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths)
        )
        self.mix = nn.ModuleList(_lighter(width, width, 1) for width in widths[:-1])
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Conv2d(widths[0], classes, 1))

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Score every pixel."""
        *finer, summed = self.slices(pixels, maps)
        for index in reversed(range(len(finer))):
            coarse = self.narrow[index](summed)
            summed = self.mix[index](finer[index] + _resize(coarse, finer[index]))
        return _resize(self.head(summed), pixels)


class Classifier(nn.Module):
    """Slices and a linear layer on their means: a class for every image.

    Args: as in `Slices`.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        maps     the backbone's
        returns  (N, classes) float32
    """

    def __init__(
        self, maps: Sequence[MapFacts], widths: Sequence[int], side: int, classes: int
    ) -> None:
        super().__init__()
        self.slices = Slices(maps, widths, side)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(sum(widths), classes))

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Score every class."""
        means = [one.mean((2, 3)) for one in self.slices(pixels, maps)]
        logits: Tensor = self.head(torch.cat(means, dim=1))
        return logits


class Block(nn.Module):
    """An inverted residual: widen, look around channel by channel, narrow, add.

    Source: Sandler et al. 2018, arXiv:1801.04381.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.layers = nn.Sequential(
            _convolution(width, inner, 1),
            _convolution(inner, inner, 3, groups=inner),
            _convolution(inner, width, 1, act=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the output of the layers."""
        changed: Tensor = features + self.layers(features)
        return changed


def _stem(stride: int, side: int, width: int) -> nn.Sequential:
    """Return the layers from the image to the finest map's height and width."""
    first = _convolution(3, side, 3, stride=min(2, stride))
    return nn.Sequential(first, _lighter(side, width, max(1, stride // 2)))


def _lighter(inputs: int, outputs: int, step: int) -> nn.Sequential:
    """Return depthwise and pointwise layers, each halving the sides."""
    layers = []
    while step > 2:
        layers.append(_convolution(inputs, inputs, 3, stride=2, groups=inputs))
        step //= 2
    layers.append(_convolution(inputs, inputs, 3, stride=step, groups=inputs))
    return nn.Sequential(*layers, _convolution(inputs, outputs, 1))


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: bool = True,
) -> nn.Sequential:
    convolution = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(
        features, size=like.shape[-2:], mode="bilinear", align_corners=False
    )
