"""Images with boxes from a folder of images and masks, and views to train on."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from boxes import Boxes, boxes_of
from detector_model import Target, Views, views_of
from PIL import Image
from torch import Tensor
from torchvision.models.detection.ssd import SSD

VIEWS = 2  # of each training image: as it is, and a part of it
LEAST_PART = 0.6  # of a side
LEAST_LEFT = 0.5  # of a box's area within the part; below it, the box is left out


class Sample(NamedTuple):
    """An image, uint8 (3, H, W), and its boxes."""

    image: Tensor
    boxes: Boxes

    def target(self) -> Target:
        return {
            "boxes": torch.from_numpy(self.boxes.corners),
            "labels": torch.from_numpy(self.boxes.labels),
        }


def read_samples(
    folder: Path, split: str, most: int | None, options: argparse.Namespace
) -> list[Sample]:
    """The first images of a list that have a box.

    Raises:
        OSError: The list, an image or a mask is missing.
    """
    found: list[Sample] = []
    for name in (folder / f"{split}.txt").read_text().split():
        if most is not None and len(found) >= most:
            break
        mask = np.array(Image.open(folder / "masks" / f"{name}.png"))
        boxes = boxes_of(mask, ignore_index=options.ignore_index)
        if len(boxes.labels):
            image = Image.open(folder / "images" / f"{name}.jpg").convert("RGB")
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            found.append(Sample(pixels, boxes))
    return found


def views_for_training(model: SSD, samples: list[Sample], seed: int) -> Views:
    """The views of every image, one after another."""
    draws = np.random.default_rng(seed)
    shown = [view for one in samples for view in (one, part_of(one, draws))]
    return views_of(model, [v.image for v in shown], [v.target() for v in shown])


def mirrored(sample: Sample) -> Sample:
    """Left is right."""
    width = sample.image.shape[-1]
    left, top, right, bottom = sample.boxes.corners.T
    corners = np.stack([width - right, top, width - left, bottom], axis=1)
    return Sample(sample.image.flip(-1), sample.boxes._replace(corners=corners))


def part_of(sample: Sample, draws: np.random.Generator) -> Sample:
    """A part of an image, mirrored or not, with what is left of its boxes.

    The whole image where no box would be left.
    """
    height, width = sample.image.shape[-2:]
    high, wide = (int(s * draws.uniform(LEAST_PART, 1)) for s in (height, width))
    top = int(draws.integers(height - high + 1))
    left = int(draws.integers(width - wide + 1))
    mirror = draws.random() < 0.5
    moved = sample.boxes.corners - np.float32([left, top, left, top])
    cut = moved.clip(0, np.float32([wide, high, wide, high]))
    kept = area(cut) >= LEAST_LEFT * area(moved)
    if kept.any():
        boxes = Boxes(*(one[kept] for one in sample.boxes._replace(corners=cut)))
        image = sample.image[:, top : top + high, left : left + wide]
        sample = Sample(image, boxes)
    return mirrored(sample) if mirror else sample


def area(corners: np.ndarray) -> np.ndarray:
    """In square pixels. Shape: (n, 4) to (n,)."""
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
