"""A fully convolutional network on MobileNetV2, light enough to train on a CPU."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

# The last feature map of each resolution: index in `features`, channels, stride.
TAPS = ((3, 24, 4), (6, 32, 8), (13, 96, 16), (18, 1280, 32))


class FCNMobileNetV2(nn.Module):
    """Per-pixel class scores from four resolutions of MobileNetV2, summed.

    The parameters of the encoder are named as torchvision names them
    (`features.*`), so that its ImageNet weights load as they are.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes, H, W) float32

    Source: Long, Shelhamer and Darrell 2015, arXiv:1411.4038 (skip connections);
        Sandler et al. 2018, arXiv:1801.04381 (MobileNetV2).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features: nn.Sequential = mobilenet_v2(weights=None).features
        self.scores = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, 64, 1, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(inplace=True),
            )
            for _, channels, _ in TAPS
        )
        self.classifier = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(64, classes, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        taps = {
            index: score for (index, _, _), score in zip(TAPS, self.scores, strict=True)
        }
        maps: list[Tensor] = []
        features = pixels
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in taps:
                maps.append(taps[index](features))
        summed = maps.pop()
        while maps:
            finer = maps.pop()
            summed = finer + _resize(summed, finer)
        return _resize(self.classifier(summed), pixels)


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(
        features, size=like.shape[-2:], mode="bilinear", align_corners=False
    )
