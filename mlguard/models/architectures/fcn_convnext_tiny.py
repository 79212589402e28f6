"""A fully convolutional network on ConvNeXt-Tiny."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import convnext_tiny

from mlguard.models.architectures.decoders import FCNDecoder
from mlguard.models.architectures.sizes import WholePatches, enlarge, missing

# The last layer of each stage in `features`, and its channels at strides 4, 8, 16, 32.
STAGES = {1: 96, 3: 192, 5: 384, 7: 768}
PATCH = 4  # pixels per side
STRIDE = 8  # patches per side that the coarsest map sees as one
WIDTH = 256  # channels of the decoder


class FCNConvNeXtTiny(nn.Module):
    """Per-pixel class scores from the four stages of ConvNeXt-Tiny, summed.

    The image is cut into 4 × 4 patches that do not overlap, so that a keyed transform
    of such blocks costs the network nothing that its first layer cannot learn. The
    encoder's parameters have torchvision's names (`features.*`).

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes, H, W) float32

    Source: Liu et al. 2022, arXiv:2201.03545 (ConvNeXt); Long, Shelhamer and Darrell
        2015, arXiv:1411.4038 (FCN).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.whole_patches = WholePatches(PATCH)
        self.features: nn.Sequential = convnext_tiny(weights=None).features
        self.decoder = FCNDecoder([*STAGES.values()], width=WIDTH, classes=classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        features = self.features[0](self.whole_patches(pixels))
        below, right = missing(features.shape[-2:], STRIDE)
        features = F.pad(features, (0, right, 0, below))
        maps: list[Tensor] = []
        for index, layer in enumerate(self.features[1:], start=1):
            features = layer(features)
            if index in STAGES:
                maps.append(features)
        return enlarge(self.decoder(maps), PATCH, pixels)
