"""SETR: a vision transformer, ViT-B/16, that scores every patch."""

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from mlguard.models.architectures.decoders import convolution
from mlguard.models.architectures.sizes import WholePatches, enlarge
from mlguard.models.positions import resampled

torch.fx.wrap("resampled")  # it checks for the number of patches it was learned for

PATCH = 16  # pixels a side
PRETRAINED_SIZE = 224  # pixels per side; the position embedding then has 14 × 14 places
WIDTH = 256  # channels of the decoder


class SETRViTB16(nn.Module):
    """Per-pixel class scores from the patches of ViT-B/16, enlarged sixteenfold.

    The image is cut into 16 × 16 patches that do not overlap, so that a keyed transform
    of such blocks, or of smaller ones, costs the network nothing that its first layer
    cannot learn. The encoder's parameters have torchvision's names after `backbone.`.

    Args:
        classes: Number of classes.
        depth: Encoder blocks.
        channels: Channels of a patch.
        heads: Heads of the attention.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, classes, H, W) float32

    Source: Zheng et al. 2021, arXiv:2012.15840 (SETR, here with its naive decoder and
        without auxiliary heads); Dosovitskiy et al. 2021, arXiv:2010.11929 (ViT).
    """

    def __init__(
        self, classes: int, *, depth: int = 12, channels: int = 768, heads: int = 12
    ) -> None:
        super().__init__()
        self.whole_patches = WholePatches(PATCH)
        self.backbone = VisionTransformer(
            image_size=PRETRAINED_SIZE,
            patch_size=PATCH,
            num_layers=depth,
            num_heads=heads,
            hidden_dim=channels,
            mlp_dim=4 * channels,
        )
        self.backbone.heads = nn.Identity()
        self.decoder = nn.Sequential(
            convolution(channels, WIDTH, 1), nn.Conv2d(WIDTH, classes, 1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Score every pixel."""
        patches = self.backbone.conv_proj(self.whole_patches(pixels))
        return enlarge(self.decoder(self._encode(patches)), PATCH, pixels)

    def _encode(self, patches: Tensor) -> Tensor:
        """Shape: (N, channels, rows, columns) to the same."""
        count, _, rows, columns = patches.shape
        encoder = self.backbone.encoder
        token = self.backbone.class_token.expand(count, -1, -1)
        tokens = torch.cat((token, patches.flatten(2).transpose(1, 2)), dim=1)
        tokens = tokens + resampled(encoder.pos_embedding, rows, columns)
        tokens = encoder.ln(encoder.layers(encoder.dropout(tokens)))
        encoded: Tensor = tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
        return encoded
