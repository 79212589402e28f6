"""Resize the position embeddings of a vision transformer, for images of any size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resampled(embedding: Tensor, rows: int, columns: int) -> Tensor:
    """Resample a learned position embedding to another number of patches, bicubically.

    Args:
        embedding: The embedding of the class token and of a square of patches.
        rows: Patches from top to bottom.
        columns: Patches from left to right.

    Shape:
        embedding (1, 1 + side · side, D) float32
        returns   (1, 1 + rows · columns, D) float32

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.2.
    """
    token, places = embedding[:, :1], embedding[:, 1:]
    side = math.isqrt(places.shape[1])
    grid = places.transpose(1, 2).reshape(1, -1, side, side)
    grid = F.interpolate(
        grid, size=(rows, columns), mode="bicubic", align_corners=False
    )
    return torch.cat((token, grid.flatten(2).transpose(1, 2)), dim=1)
