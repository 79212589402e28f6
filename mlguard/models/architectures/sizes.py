"""Pad and resize images and feature maps of any size.

The code tests no size, so that one exported graph serves them all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WholePatches(nn.Module):
    """Pad images on the right and below until a patch divides their sides.

    The padding is zero, the mean colour. Images of whole patches are not changed, so a
    key whose blocks are patches never meets the padding. It is a module, so that
    folding a key into the patch embedding can see through it.

    Args:
        patch: Side of a patch in pixels.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, 3, H', W') float32, H' and W' the next multiples of `patch`
    """

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, pixels: Tensor) -> Tensor:
        """Pad."""
        below, right = missing(pixels.shape[-2:], self.patch)
        return F.pad(pixels, (0, right, 0, below))


def missing(sides: tuple[int, ...], stride: int, *, least: int = 1) -> tuple[int, int]:
    """Return what height and width lack to the next multiples of a stride.

    Args:
        sides: Height and width of an image or a feature map.
        stride: The number that is to divide them.
        least: The least number of strides in a side.
    """
    height, width = sides
    return _missing(height, stride, least), _missing(width, stride, least)


def resize(features: Tensor, like: Tensor) -> Tensor:
    """Resize a feature map bilinearly to the height and width of another.

    Shape:
        features (N, C, h, w) float32
        like     (N, any, H, W)
        returns  (N, C, H, W) float32
    """
    return F.interpolate(
        features, size=like.shape[-2:], mode="bilinear", align_corners=False
    )


def enlarge(logits: Tensor, patch: int, like: Tensor) -> Tensor:
    """Enlarge the logits of patches to pixels, and crop the padding.

    Shape:
        logits   (N, classes, h, w) float32; h · patch ≥ H and w · patch ≥ W
        like     (N, any, H, W)
        returns  (N, classes, H, W) float32
    """
    size = (patch * logits.shape[2], patch * logits.shape[3])
    pixels = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return pixels[:, :, : like.shape[2], : like.shape[3]]


def _missing(side: int, stride: int, least: int) -> int:
    strides = (side + stride - 1) // stride
    # sym_max, because max() would test which is larger
    whole: int = strides if least == 1 else torch.sym_max(strides, least)  # type: ignore[assignment]
    return stride * whole - side
