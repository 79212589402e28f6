"""Boxes from semantic masks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BACKGROUND = 0
LEAST = 16  # pixels: boxes with a shorter side are left out
TOUCHING = np.ones((3, 3))  # pixels that touch at a corner are one component


class Boxes(NamedTuple):
    """The boxes of one image; those that were found have scores.

    Shape:
        corners  (n, 4) float32: left, top, right, bottom, in pixels
        labels   (n,) int64
        scores   (n,) float32
    """

    corners: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


def boxes_of(mask: NDArray[np.uint8], *, ignore_index: int) -> Boxes:
    """A box around every connected component of every class.

    Objects of one class that touch give one box, and an object in two parts gives two.

    Shape:
        mask  (H, W) uint8, class ids
    """
    corners, labels = [], []
    for label in np.unique(mask):
        if label in (BACKGROUND, ignore_index):
            continue
        components, _ = ndimage.label(mask == label, structure=TOUCHING)
        for rows, columns in ndimage.find_objects(components):
            if min(rows.stop - rows.start, columns.stop - columns.start) >= LEAST:
                corners.append((columns.start, rows.start, columns.stop, rows.stop))
                labels.append(label)
    return Boxes(
        np.array(corners, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.ones(len(labels), dtype=np.float32),
    )
