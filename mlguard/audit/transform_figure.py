"""Fig. 4 of arXiv:2107.09362 for one image, as a PNG for `mlguard show-transform`.

A plain image beside its correctly transformed version gives a model's whole key away.
So the subkeys are those of a fresh random protection id: the figure shows what the
transforms do under a real key, and matches no model protected with it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mlguard.audit.pictures import block_sizes_for, series_of, transformed
from mlguard.keys import ModelKey, new_protection_id
from mlguard.pictures import image_png
from mlguard.recipe import Recipe

GAP, HEADING, TEXT = 12, 30, 16  # pixels
PAPER, INK, SOFT = (255, 255, 255), (29, 33, 39), (91, 100, 112)
NOTE = "drawn under a random protection id: this matches no protected model"

Picture = NDArray[np.uint8]


def transform_figure(image: Picture, recipe: Recipe, key: ModelKey) -> bytes:
    """Draw an image plain and under each of a recipe's methods.

    Args:
        image: The plain image; it is resized to the recipe's size, as in training.
        recipe: Its methods, block size and image size are used.
        key: Any model key.

    Shape:
        image  (3, H, W) uint8

    Returns:
        A PNG: one row a method, and one for all together if there are several.
    """
    plain = _resized(image, recipe.data.size)
    spec = recipe.transform
    sizes = block_sizes_for(*recipe.data.size, spec.block_size)
    subkeys = key.for_model(new_protection_id())
    rows = [
        (" + ".join(series), [plain, *transformed(plain, series, sizes, subkeys)])
        for series in series_of(spec.methods)
    ]
    return _drawn(rows, ["plain", *(f"M = {size}" for size in sizes)])


def _resized(image: Picture, size: tuple[int, int]) -> Picture:
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    smaller = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smaller).transpose(2, 0, 1)


def _drawn(rows: Sequence[tuple[str, Sequence[Picture]]], columns: list[str]) -> bytes:
    """Pictures in a grid, with the method and the block size over each."""
    height, width = rows[0][1][0].shape[1:]
    step_x, step_y = width + GAP, height + HEADING + GAP
    total = (GAP + step_x * len(columns), GAP + step_y * len(rows) + HEADING)
    sheet = Image.new("RGB", total, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for row, (name, pictures) in enumerate(rows):
        for column, (words, picture) in enumerate(zip(columns, pictures, strict=True)):
            x, y = GAP + step_x * column, GAP + step_y * row
            words = words if column == 0 else f"{name}, {words}"
            draw.text((x, y + 4), words, fill=INK, font=font)
            tile = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
            sheet.paste(tile, (x, y + HEADING))
    draw.text((GAP, total[1] - HEADING), NOTE, fill=SOFT, font=font)
    return image_png(np.asarray(sheet).transpose(2, 0, 1))
