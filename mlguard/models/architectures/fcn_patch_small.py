"""A small network on patches that trains from scratch in minutes."""

import torch.nn.functional as F
from torch import Tensor, nn

from mlguard.models.architectures.decoders import FCNDecoder
from mlguard.models.architectures.residual import Residual
from mlguard.models.architectures.sizes import WholePatches, enlarge, missing

PATCH = 4  # pixels per side
WIDTHS = (64, 96)  # channels at strides 4 and 8
STRIDE = 2  # patches per side that the coarse map sees as one


class FCNPatchSmall(nn.Module):
    """A patch embedding and three residual blocks, scored at strides 4 and 8.

    The image is cut into 4 × 4 patches that do not overlap, so that a keyed transform
    of such blocks costs the network nothing that its first layer cannot learn.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes, H, W) float32
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        fine, coarse = WIDTHS
        self.whole_patches = WholePatches(PATCH)
        self.embedding = nn.Sequential(
            nn.Conv2d(3, fine, PATCH, stride=PATCH, bias=False),
            nn.BatchNorm2d(fine),
        )
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    Residual(fine, fine, stride=1), Residual(fine, fine, stride=1)
                ),
                Residual(fine, coarse, stride=2),
            ]
        )
        self.decoder = FCNDecoder(WIDTHS, width=48, classes=classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        features = self.embedding(self.whole_patches(pixels))
        below, right = missing(features.shape[-2:], STRIDE)
        features = F.pad(features, (0, right, 0, below))
        maps: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return enlarge(self.decoder(maps), PATCH, pixels)
