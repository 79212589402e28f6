"""Make a classification data set of a segmentation one: crops of single objects.

    python benchmarks/crops.py VOC OUT --recipe fcn_mobilenet_voc \
        --split train=train_aug --split test=val --classes cat,cow,dog,horse,sheep

VOC is in the `folder` layout; OUT gets the `imagefolder` layout. Every class that is
large enough in an image and has nearly all of the foreground within its own bounding
box gives one crop, the box with a margin, scaled to --side pixels. Class masks do not
tell two objects of one class apart, so a crop may hold several. The same files give the
same crops; the data set's licence goes with them, and none are part of this project.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.data.files import PairPaths, decode_image, decode_mask, read_file
from mlguard.data.folder import folder_ids, folder_pairs
from mlguard.pictures import image_png
from mlguard.recipe import read_recipe

MIN_DOMINANCE = 0.9  # share of the box's foreground that is of the one class
MIN_AREA = 0.04  # share of the image that is of the one class
MARGIN = 0.1  # of the box's sides, on each side
BACKGROUND, VOID = 0, 255

Box = tuple[int, int, int, int]  # left, top, right, bottom; pixels


def crops_of(mask: NDArray[np.uint8], classes: Sequence[int]) -> list[tuple[int, Box]]:
    """The classes of one image that give a crop, each with its box."""
    found = []
    for number in classes:
        where = mask == number
        if where.mean() < MIN_AREA:
            continue
        left, top, right, bottom = box = box_of(where)
        inside = mask[top:bottom, left:right]
        foreground = (inside != BACKGROUND) & (inside != VOID)
        if (inside == number).sum() >= MIN_DOMINANCE * foreground.sum():
            found.append((number, box))
    return found


def box_of(where: NDArray[np.bool_]) -> Box:
    """The bounding box of what is set, with a margin, within the image."""
    height, width = where.shape
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    down, across = round(MARGIN * (bottom - top)), round(MARGIN * (right - left))
    return (
        max(0, left - across),
        max(0, top - down),
        min(width, right + across),
        min(height, bottom + down),
    )


def make_split(
    pairs: Iterable[PairPaths], folder: Path, classes: Mapping[int, str], side: int
) -> int:
    """Write the crops of one list; how many they are."""
    made = 0
    for pair in pairs:
        mask = decode_mask(read_file(pair.mask), pair.mask)
        image = Image.fromarray(decode_image(read_file(pair.image), pair.image))
        for number, box in crops_of(mask, list(classes)):
            crop = image.resize((side, side), Image.Resampling.BILINEAR, box)
            place = folder / classes[number].replace(" ", "-")
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(crop).transpose(2, 0, 1)
            (place / f"{pair.id}.png").write_bytes(image_png(pixels))
            made += 1
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with images/, masks/ and lists")
    parser.add_argument("out", type=Path, help="folder to make; must not exist")
    parser.add_argument("--recipe", required=True, help="whose classes the masks have")
    parser.add_argument(
        "--split",
        action="append",
        required=True,
        metavar="NEW=LIST",
        help="a split of the new data, and the list its images come from",
    )
    parser.add_argument("--classes", default="", help="with commas; else all")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    options = parser.parse_args()
    names = read_recipe(options.recipe).data.class_names
    wanted = options.classes.split(",") if options.classes else names
    classes = {i: name for i, name in enumerate(names) if name in wanted}
    classes.pop(BACKGROUND, None)
    options.out.mkdir(parents=True)
    for split in options.split:
        new, _, listed = split.partition("=")
        pairs = folder_pairs(options.data, folder_ids(options.data, listed))
        made = make_split(pairs, options.out / new, classes, options.side)
        print(f"{options.out / new}: {made} images")


if __name__ == "__main__":
    main()
