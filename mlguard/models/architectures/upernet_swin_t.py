"""UPerNet on Swin-T."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import swin_t
from torchvision.models.swin_transformer import SwinTransformerBlock

from mlguard.models.architectures.decoders import UPerDecoder
from mlguard.models.architectures.shifted_windows import WindowAttention
from mlguard.models.architectures.sizes import WholePatches, enlarge, missing

# The last layer of each stage in `features`, and its channels at strides 4, 8, 16, 32.
STAGES = {1: 96, 3: 192, 5: 384, 7: 768}
PATCH = 4  # pixels per side
STRIDE = 8  # patches per side that the coarsest map sees as one
LEAST = 8  # strides per side, so that the coarsest map is larger than a window of 7 × 7
WIDTH = 256  # channels of the decoder; the paper's 512 are for larger encoders


class UPerNetSwinT(nn.Module):
    """Per-pixel class scores from the four stages of Swin-T.

    The image is cut into 4 × 4 patches that do not overlap, so that a keyed transform
    of such blocks costs the network nothing that its first layer cannot learn. The
    encoder's parameters have torchvision's names (`features.*`).

    Shape:
        pixels   (N, 3, H, W) float32, normalized; a small image is computed as if it
                 were 256 × 256
        returns  (N, classes, H, W) float32

    Source: Liu et al. 2021, arXiv:2103.14030 (Swin); Xiao et al. 2018,
        arXiv:1807.10221 (UPerNet).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        block = partial(SwinTransformerBlock, attn_layer=WindowAttention)
        self.whole_patches = WholePatches(PATCH)
        self.features: nn.Sequential = swin_t(weights=None, block=block).features
        self.norms = nn.ModuleList(nn.LayerNorm(one) for one in STAGES.values())
        self.decoder = UPerDecoder([*STAGES.values()], width=WIDTH, classes=classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        features = self.features[0](self.whole_patches(pixels))
        below, right = missing(features.shape[1:3], STRIDE, least=LEAST)
        features = F.pad(features, (0, 0, 0, right, 0, below))
        norms = iter(self.norms)
        maps: list[Tensor] = []
        for index, layer in enumerate(self.features[1:], start=1):
            features = layer(features)
            if index in STAGES:
                maps.append(next(norms)(features).permute(0, 3, 1, 2))
        return enlarge(self.decoder(maps), PATCH, pixels)
