"""A small classifier that trains from scratch in minutes on a CPU."""

from torch import Tensor, nn

from mlguard.models.architectures.residual import Residual

WIDTHS = (32, 64, 128)  # channels at strides 1, 2 and 4


class CNNSmall(nn.Module):
    """Three residual stages, averaged over the image, and one linear layer.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes) float32
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.stages = nn.Sequential(
            *(
                Residual(channels, width, stride=1 if index == 0 else 2)
                for index, (channels, width) in enumerate(
                    zip(inputs, WIDTHS, strict=True)
                )
            )
        )
        self.classifier = nn.Linear(WIDTHS[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every class."""
        features: Tensor = self.stages(self.stem(pixels))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits
