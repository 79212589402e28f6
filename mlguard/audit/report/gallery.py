"""The pictures of a report: transformed images, and predictions beside the truth.

No picture is ever made with a protected model's own subkeys: transformed images use a
key that protects nothing. The module knows no model and no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlguard.pictures import (
    block_sizes_for,
    demonstration_subkeys,
    image_png,
    series_of,
    thumbnail,
    transformed,
)


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption.

    Attributes:
        png: The file's content.
        caption: A few words under it.
        alt: Its description, for readers who cannot see it.
    """

    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Row:
    """Pictures side by side, under one title."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Every picture of a report.

    Attributes:
        transformed: An image under each method and block size; never the model's key.
        predictions: For each example image: input, truth, prediction by condition.
    """

    transformed: tuple[Row, ...] = ()
    predictions: tuple[Row, ...] = ()


def demonstrate(
    image: NDArray[np.uint8], methods: Sequence[str], own: int
) -> tuple[Row, ...]:
    """Return Fig. 4 of arXiv:2107.09362 for one image, under the demonstration key.

    Args:
        image: The plain image.
        methods: The recipe's methods that work on images; without any, there is nothing
            to show.
        own: The recipe's block size.

    Shape:
        image  (3, H, W) uint8
    """
    if not methods:
        return ()
    small = thumbnail(image)
    height, width = small.shape[1:]
    sizes = block_sizes_for(height, width, own, methods)
    subkeys = demonstration_subkeys()
    plain = Picture(image_png(small), "plain", "The plain image")
    rows = []
    for series in series_of(methods):
        name = " + ".join(series)
        pictures = transformed(small, series, sizes, subkeys)
        made = (
            Picture(
                image_png(picture),
                f"M = {size}",
                f"{name} with {size} by {size} blocks",
            )
            for size, picture in zip(sizes, pictures, strict=True)
        )
        rows.append(Row(name, (plain, *made)))
    return tuple(rows)
