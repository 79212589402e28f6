"""Training images: random, and yet the same in any worker and after any resume."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mlguard.data import TrainingSet, epoch_positions, open_split

WHOLE = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": 0.0}


@pytest.fixture
def training(shapes_spec):
    """Make a training set of twelve generated images."""

    def make(seed: int = 0, **changes: object) -> TrainingSet:
        spec = shapes_spec(**changes)
        return TrainingSet(open_split(spec, None, "train", seed=0), spec, seed)

    return make


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_position_always_gives_the_same_crop(training) -> None:
    assert same(training()[17], training()[17])


def test_another_seed_or_epoch_gives_another_crop(training) -> None:
    assert not same(training(seed=0)[5], training(seed=1)[5])
    assert not same(training()[5], training()[5 + 12])


def test_a_crop_has_the_size_and_type_of_its_image(training) -> None:
    image, mask = training(size=(32, 48))[3]
    assert (image.shape, image.dtype) == ((3, 32, 48), torch.uint8)
    assert (mask.shape, mask.dtype) == ((32, 48), torch.uint8)


def test_without_crop_and_flip_the_image_is_left_alone(training) -> None:
    made = training(**WHOLE)
    assert same(made[5], made.base[5])
    assert same(made[5 + 12], made.base[5])


def test_a_certain_flip_mirrors_image_and_mask(training) -> None:
    made = training(**{**WHOLE, "flip": 1.0})
    image, mask = made.base[2]
    assert same(made[2], (image.flip(-1), mask.flip(-1)))


def test_half_the_images_are_flipped(training) -> None:
    made = training(**{**WHOLE, "flip": 0.5})
    kept = sum(same(made[p], made.base[p % 12]) for p in range(400))
    assert 160 < kept < 240


def test_image_and_mask_are_cropped_alike(training, monkeypatch) -> None:
    """A mask that is its image's bright part is still that after any crop."""
    made = training(size=(64, 64))
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:50, 10:40] = 1
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    monkeypatch.setattr(type(made.base), "arrays", lambda *_: (image, mask))
    for position in range(50):
        crop, labels = made[position]
        # Pixels that the interpolation mixed are on the border and may go either way.
        clear = (crop[0] < 32) | (crop[0] > 223)
        assert torch.equal(crop[0][clear] > 127, labels[clear] == 1)


def test_masks_gain_no_values_by_resizing(training) -> None:
    made = training()
    for position in range(36):
        labels = set(made[position][1].unique().tolist())
        assert labels <= set(made.base[position % 12][1].unique().tolist())


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (40, 3)], ids=str)
def test_tiny_and_narrow_images_are_cropped(training, monkeypatch, size) -> None:
    made = training()
    pair = np.zeros((*size, 3), dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    monkeypatch.setattr(type(made.base), "arrays", lambda *_: pair)
    assert all(made[p][1].shape == size for p in range(20))


def test_a_crop_larger_than_the_image_falls_back_to_the_largest(training) -> None:
    made = training(crop_scale=(4.0, 4.0), crop_ratio=(1.0, 1.0), flip=0.0)
    assert same(made[0], made.base[0])


def test_torchs_own_random_state_is_left_alone(training) -> None:
    made = training()
    before = torch.get_rng_state()
    made[0], epoch_positions(12, seed=0, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_torchs_own_random_state_has_no_say(training) -> None:
    torch.manual_seed(1)
    first = training()[4]
    torch.manual_seed(2)
    assert same(training()[4], first)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_what_the_main_process_gives(training, workers: int) -> None:
    made = training()
    positions = epoch_positions(12, seed=0, epoch=3)
    loader = DataLoader(made, batch_size=5, sampler=positions, num_workers=workers)
    images = torch.cat([images for images, _ in loader])
    assert torch.equal(images, torch.stack([made[p][0] for p in positions]))


def test_an_epoch_holds_every_image_once(training) -> None:
    positions = epoch_positions(12, seed=0, epoch=2)
    assert sorted(positions) == list(range(24, 36))
    assert positions != sorted(positions)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {
        tuple(position % 50 for position in epoch_positions(50, seed=s, epoch=e))
        for s in range(3)
        for e in range(3)
    }
    assert len(orders) == 9


def test_the_order_is_pinned() -> None:
    """Resuming with a later release must go on in the same order."""
    assert epoch_positions(6, seed=0, epoch=1) == [7, 6, 9, 11, 10, 8]
