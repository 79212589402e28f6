"""A small fully convolutional network that trains from scratch in minutes."""

import torch.nn.functional as F
from torch import Tensor, nn

from mlguard.models.architectures.residual import Residual

WIDTHS = (32, 64, 96)  # channels at strides 2, 4 and 8


class FCNSmall(nn.Module):
    """Three residual stages, their scores summed at stride 2.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes, H, W) float32
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.stages = nn.ModuleList(
            Residual(channels, width, stride=1 if index == 0 else 2)
            for index, (channels, width) in enumerate(zip(inputs, WIDTHS, strict=True))
        )
        self.scores = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in WIDTHS)
        self.classifier = nn.Sequential(
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, classes, 3, padding=1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        features = self.stem(pixels)
        summed: Tensor | None = None
        for stage, score in zip(self.stages, self.scores, strict=True):
            features = stage(features)
            scores = score(features)
            if summed is None:
                summed = scores
            else:
                summed = summed + F.interpolate(
                    scores, size=summed.shape[-2:], mode="bilinear", align_corners=False
                )
        logits: Tensor = F.interpolate(
            self.classifier(summed),
            size=pixels.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        return logits
