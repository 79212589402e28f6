"""The measurement of a detector counts the boxes that it says it counts."""

import importlib

import numpy as np
import pytest
import torch

from tests.detectors import LAYER, SIZE, small_ssd
from tests.runs import KEY

VOID = 255


def mask() -> np.ndarray:
    """Two cats, one of them in void, a dog of one pixel too few, and a crumb."""
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[2:22, 4:30] = 1
    pixels[30:34, 30:60] = VOID
    pixels[34:60, 30:60] = 1
    pixels[40:60, 2:17] = 2
    pixels[0, 63] = 2
    return pixels


def boxes() -> tuple:
    return importlib.import_module("boxes").boxes_of(mask(), ignore_index=VOID)


def test_every_component_of_a_class_has_a_box_and_small_ones_have_none() -> None:
    found = boxes()
    assert found.labels.tolist() == [1, 1]
    assert found.corners.tolist() == [[4, 2, 30, 22], [30, 34, 60, 60]]


def test_boxes_move_with_a_mirrored_image_and_a_part_of_it() -> None:
    data = importlib.import_module("detector_data")
    image = torch.from_numpy(mask()).expand(3, -1, -1)
    sample = data.Sample(image, boxes())
    assert data.mirrored(sample).boxes.corners[0].tolist() == [34, 2, 60, 22]
    draws = np.random.default_rng(0)
    for part in (data.part_of(sample, draws) for _ in range(20)):
        high, wide = part.image.shape[-2:]
        assert high >= 38
        for left, top, right, bottom in part.boxes.corners.astype(int):
            assert 0 <= left < right <= wide
            assert 0 <= top < bottom <= high
            inside = part.image[0, top:bottom, left:right]
            assert (inside == 1).float().mean() > 0.9


def test_the_blocks_before_and_after_the_cut_are_the_whole_backbone() -> None:
    parts = importlib.import_module("detector_model")
    model = parts.new_detector(3, 64, None, seed=0)
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    box = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}
    views = parts.views_of(model, [image], [box])
    with torch.inference_mode():
        (expected,) = model([image / 255])
    (found,) = parts.detect(model, views)
    assert len(found["scores"]) > 10
    half = {"rtol": 0, "atol": 1e-2}  # the views are kept in half precision
    torch.testing.assert_close(found["scores"][:1], expected["scores"][:1], **half)


@pytest.mark.interop
def test_precision_is_one_for_the_boxes_themselves_and_less_for_others() -> None:
    pytest.importorskip("pycocotools")
    precision = importlib.import_module("average_precision").mean_average_precision
    truth = boxes()
    assert precision([truth], [truth]) == {"map": 1.0, "map50": 1.0}
    moved = truth._replace(corners=truth.corners + np.float32([7, 0, 7, 0]))
    scores = precision([truth], [moved])
    assert scores["map50"] == 1.0
    assert scores["map"] < 0.5
    wrong = truth._replace(labels=truth.labels + 1)
    assert precision([truth], [wrong]) == {"map": 0.0, "map50": 0.0}
    none = type(truth)(*(one[:0] for one in truth))
    assert precision([truth], [none]) == {"map": 0.0, "map50": 0.0}


@pytest.mark.interop
def test_public_weights_read_off_an_order_that_was_folded_in() -> None:
    pytest.importorskip("pycocotools")
    from mlguard.protect import channel_permutations, fold_permutations

    model, subkeys = small_ssd(), KEY.for_model(bytes(16))
    orders = channel_permutations(model, [LAYER], subkeys, size=SIZE)
    fold_permutations(model, orders)
    read = importlib.import_module("detector").paired(model, small_ssd(), LAYER)
    assert np.array_equal(read.order, orders[0].order)


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path) -> None:
    parts = importlib.import_module("detector_model")
    train = importlib.import_module("detector_train").train
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(4)]
    box = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}
    views = parts.views_of(parts.new_detector(3, 64, None, 0), images, [box] * 4)

    def trained(name: str, epochs: tuple[int, ...]) -> dict:
        for last in epochs:
            model = parts.new_detector(3, 64, None, seed=0)
            file = tmp_path / name
            train(model, views, (), epochs=2, seed=0, kept=file, most=last)
        return model.state_dict()

    whole, stopped = trained("whole.pt", (2,)), trained("stopped.pt", (1, 2))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
