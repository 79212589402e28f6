"""Mean average precision as COCO's own code counts it (pycocotools)."""

import contextlib
import io

import numpy as np
from boxes import Boxes
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def mean_average_precision(truth: list[Boxes], found: list[Boxes]) -> dict[str, float]:
    """COCO's mAP, over IoU of 0.50 to 0.95, and mAP at 0.50.

    Args:
        truth: Of every image.
        found: Of the same images, with scores.
    """
    answers = [
        {"image_id": image, "score": float(score), **_box(corners, label)}
        for image, boxes in enumerate(found)
        for corners, label, score in zip(*boxes, strict=True)
    ]
    if not answers:
        return {"map": 0.0, "map50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it tells every step
        dataset = _dataset(truth)
        scored = COCOeval(dataset, dataset.loadRes(answers), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return {"map": float(scored.stats[0]), "map50": float(scored.stats[1])}


def _dataset(truth: list[Boxes]) -> COCO:
    annotations = [
        {"image_id": image, "iscrowd": 0, **_box(corners, label)}
        for image, boxes in enumerate(truth)
        for corners, label in zip(boxes.corners, boxes.labels, strict=True)
    ]
    dataset = COCO()
    dataset.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [
            {"id": label} for label in sorted({a["category_id"] for a in annotations})
        ],
        "annotations": [one | {"id": n} for n, one in enumerate(annotations, start=1)],
    }
    dataset.createIndex()
    return dataset


def _box(corners: NDArray[np.float32], label: int) -> dict[str, object]:
    left, top, right, bottom = corners.tolist()
    width, height = right - left, bottom - top
    return {
        "category_id": int(label),
        "bbox": [left, top, width, height],
        "area": width * height,
    }
