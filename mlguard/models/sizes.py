"""Images and feature maps of any size: padding to whole patches, and resizing.

Written without a question about a size, so that one exported graph serves them all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def whole_patches(pixels: Tensor, stride: int, *, least: int = 1) -> Tensor:
    """Pad an image on the right and below until a stride divides its sides.

    With zeros, which is what blocks of zeros stay when their pixels are shuffled.

    Args:
        pixels: The images.
        stride: What is to divide their sides, in pixels.
        least: Strides that a side has at least.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  (N, 3, H', W') float32
    """
    height, width = pixels.shape[-2:]
    below = _whole(height, stride, least) - height
    right = _whole(width, stride, least) - width
    return F.pad(pixels, (0, right, 0, below))


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


def crop(logits: Tensor, like: Tensor) -> Tensor:
    """Undo `whole_patches`.

    Shape:
        logits   (N, classes, H', W') float32
        like     (N, 3, H, W)
        returns  (N, classes, H, W) float32
    """
    return logits[:, :, : like.shape[2], : like.shape[3]]


def _whole(side: int, stride: int, least: int) -> int:
    strides = (side + stride - 1) // stride
    # sym_max, because max() would ask which is larger
    return stride * (strides if least == 1 else torch.sym_max(strides, least))
