"""Draw Fig. 4 of arXiv:2107.09362 for one image, for `mlguard show-transform`.

A plain image beside its correctly transformed version reveals a model's whole key. So
the subkeys are those of a fresh random protection id: the figure shows the transforms
under a real key, and matches no model protected with it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mlguard.errors import RecipeError
from mlguard.keys import ModelKey, new_protection_id
from mlguard.pictures.demonstration import block_sizes_for, series_of, transformed
from mlguard.pictures.png import image_png
from mlguard.recipe import Recipe

GAP, HEADING, TEXT = 12, 30, 16  # pixels
MIN_TILE = 160  # pixels; a narrower picture is drawn larger, under its heading
PAPER, INK, SOFT = (255, 255, 255), (29, 33, 39), (91, 100, 112)
NOTE = "drawn under a random protection id: this matches no protected model"

Pixels = NDArray[np.uint8]  # (3, H, W)


def transform_figure(image: Pixels, recipe: Recipe, key: ModelKey) -> bytes:
    """Draw an image plain and under each of a recipe's methods.

    Args:
        image: The plain image; it is resized to the recipe's size, as in training.
        recipe: Its methods, block size and image size are used.
        key: Any model key.

    Shape:
        image  (3, H, W) uint8

    Raises:
        RecipeError: None of the methods works on images.

    Returns:
        A PNG with one row for each method, and one for all together if there are
        several.
    """
    spec = recipe.transform
    methods = spec.image_methods
    if not methods:
        raise RecipeError(
            "transform.method",
            [f"{'+'.join(spec.methods)} changes no image, so there is no figure"],
        )
    plain = _resized(image, recipe.data.size)
    sizes = block_sizes_for(*recipe.data.size, spec.block_size, methods)
    subkeys = key.for_model(new_protection_id())
    rows = [
        (" + ".join(series), [plain, *transformed(plain, series, sizes, subkeys)])
        for series in series_of(methods)
    ]
    return _drawn(rows, ["plain", *(f"M = {size}" for size in sizes)])


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    smaller = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smaller).transpose(2, 0, 1)


def _drawn(rows: Sequence[tuple[str, Sequence[Pixels]]], columns: list[str]) -> bytes:
    """Lay out the pictures in a grid: methods at the left, block sizes on top."""
    first = rows[0][1][0]
    scale = -(-MIN_TILE // first.shape[2])  # whole, so that blocks stay sharp
    height, width = scale * first.shape[1], scale * first.shape[2]
    font = ImageFont.load_default(TEXT)
    left = 2 * GAP + int(max(font.getlength(name) for name, _ in rows))
    step_x, step_y = width + GAP, height + GAP
    body = left + step_x * len(columns), HEADING + step_y * len(rows)
    total = max(body[0], 2 * GAP + int(font.getlength(NOTE))), body[1] + HEADING
    sheet = Image.new("RGB", total, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, words in enumerate(columns):
        draw.text((left + step_x * column, 6), words, fill=INK, font=font)
    for row, (name, pictures) in enumerate(rows):
        y = HEADING + step_y * row
        draw.text((GAP, y + height // 2), name, fill=INK, font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
            larger = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(larger, (left + step_x * column, y))
    draw.text((GAP, body[1]), NOTE, fill=SOFT, font=font)
    return image_png(np.asarray(sheet).transpose(2, 0, 1))
