"""Counting under every condition, on a model and images whose answers are known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard import metrics, recipe
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.keys import ModelSubkeys
from mlguard.models import Normalization
from mlguard.tasks import Segmentation
from mlguard.transforms import NegativePositive, TransformSet, derive_transform
from tests.audits import KEY, PROTECTION_ID, Pairs
from tests.audits import measured_by as measure

CPU = torch.device("cpu")


def inverting(*channels: bool) -> TransformSet:
    return TransformSet(NegativePositive(1, np.array(channels)))


INVERT = inverting(True, True, True)
KEEP = inverting(False, False, False)
KEEP_RED = inverting(False, True, True)


class Threshold(nn.Module):
    """Class 1 where red is above a half, or below it; class 0 elsewhere."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, pixels: Tensor) -> Tensor:
        red = self.sign * pixels[:, :1]
        return torch.cat([-red, red], dim=1)


def subject(sign: int) -> Subject:
    return Subject(Threshold(sign), Normalization(), CPU)


def pairs() -> Pairs:
    """Three images whose red channel is the mask."""
    masks = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, 4, 4)))
    images = (masks * 255)[:, None].repeat(1, 3, 1, 1)
    return Pairs(
        images.to(torch.uint8), masks.to(torch.uint8), task=Segmentation(classes=2)
    )


def accuracy(counts: np.ndarray) -> float:
    return float(metrics.accuracy(counts.sum(0)))


def test_every_condition_counts_what_its_user_gets() -> None:
    """A model that wants inverted images, and a twin that wants plain ones."""
    tried = AuditTransforms(INVERT, [KEEP, INVERT], [(0.5, [KEEP_RED])])
    found = measure(subject(-1), subject(+1), pairs(), tried, batch=2)
    assert accuracy(found.correct) == 1.0
    assert accuracy(found.no_key) == 0.0
    assert [accuracy(counts) for counts in found.incorrect] == [0.0, 1.0]
    assert found.baseline is not None
    assert accuracy(found.baseline) == 1.0
    (point,) = found.nearby
    assert (point.share, point.changed) == (0.5, pytest.approx(1 / 3))
    assert accuracy(point.counts[0]) == 0.0


def test_a_key_that_gives_the_correct_transform_by_chance_is_counted() -> None:
    tried = AuditTransforms(INVERT, [KEEP, INVERT], [])
    found = measure(subject(-1), None, pairs(), tried, batch=2)
    assert (found.same_transform, found.baseline) == (1, None)


def test_the_batch_size_changes_nothing() -> None:
    tried = AuditTransforms(INVERT, [KEEP_RED], [])
    one, all_ = (
        measure(subject(-1), None, pairs(), tried, batch=batch) for batch in (1, 3)
    )
    assert (one.correct == all_.correct).all()
    assert one.correct.shape == (3, 2, 3)


def test_images_are_read_once_for_all_keys() -> None:
    class Counting(Pairs):
        reads = 0

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            Counting.reads += 1
            return super().__getitem__(index)

    given = pairs()
    dataset = Counting(given.images, given.masks, Segmentation(2))
    tried = AuditTransforms(INVERT, [KEEP] * 20, [(0.5, [KEEP_RED] * 5)])
    measure(subject(-1), None, dataset, tried, batch=2)
    assert Counting.reads == len(given)


def test_progress_counts_to_the_end_over_both_models() -> None:
    seen: list[tuple[int, int]] = []
    tried = AuditTransforms(INVERT, [KEEP], [])
    measure(
        subject(-1),
        subject(+1),
        pairs(),
        tried,
        batch=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (12, 12)  # three images: baseline, correct, no key, one key
    assert {total for _, total in seen} == {12}


def shuffled(subkeys: ModelSubkeys) -> TransformSet:
    return TransformSet(derive_transform(("shf",), subkeys, 2))


def test_the_settings_decide_how_many_keys_are_tried() -> None:
    settings = recipe.Audit(incorrect_keys=4, nearby=(0.5, 0.25), nearby_keys=3)
    subkeys = KEY.for_model(PROTECTION_ID)
    tried = AuditTransforms.derive(shuffled(subkeys), shuffled, subkeys, settings)
    assert len(tried.incorrect) == 4
    assert [(share, len(many)) for share, many in tried.nearby] == [(0.25, 3), (0.5, 3)]
