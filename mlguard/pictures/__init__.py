"""Pictures for people: images and masks as PNG, and what transforms do to images.

The room knows arrays, colours and transforms, but no model, no report and no torch.
"""

from mlguard.pictures.class_colours import VOID, colorize, palette
from mlguard.pictures.demonstration import (
    block_sizes_for,
    demonstration_subkeys,
    series_of,
    thumbnail,
    transformed,
)
from mlguard.pictures.figure import transform_figure
from mlguard.pictures.png import answer_png, image_png, mask_png, overlay_png

__all__ = [
    "VOID",
    "answer_png",
    "block_sizes_for",
    "colorize",
    "demonstration_subkeys",
    "image_png",
    "mask_png",
    "overlay_png",
    "palette",
    "series_of",
    "thumbnail",
    "transform_figure",
    "transformed",
]
