"""Feature maps of any module under a key: trained, folded in, and in a bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.errors import BindingError
from mlguard.keys import ModelKey
from mlguard.protect import (
    Answer,
    Pixels,
    bind,
    channel_permutations,
    fold_permutations,
    permuted,
)
from mlguard.runtime import Session
from mlguard.transforms import ChannelPermutation
from tests.detectors import LAYER, SIZE, images, small_ssd
from tests.runs import KEY

MODEL = bytes(range(16))  # a protection id
Found = list[dict[str, Tensor]]


def permutations(
    model: nn.Module, key: ModelKey = KEY
) -> tuple[ChannelPermutation, ...]:
    subkeys = key.for_model(MODEL)
    return channel_permutations(model, ["backbone.first", LAYER], subkeys, size=SIZE)


@torch.inference_mode()
def boxes(model: nn.Module) -> Found:
    return model(list(images(2)))


def same(one: Found, other: Found) -> bool:
    return all(
        a[name].shape == b[name].shape and torch.allclose(a[name], b[name], atol=1e-3)
        for a, b in zip(one, other, strict=True)
        for name in a
    )


def test_orders_are_those_of_the_specification() -> None:
    first, second = permutations(small_ssd())
    expected = ChannelPermutation.derive(KEY.for_model(MODEL), LAYER, 12)
    assert (first.layer, len(first.order)) == ("backbone.first", 8)
    assert np.array_equal(second.order, expected.order)


def test_a_detector_with_the_orders_folded_in_finds_its_boxes_with_the_key() -> None:
    model = small_ssd()
    expected, keyed = boxes(model), permutations(model)
    fold_permutations(model, keyed)
    with permuted(model, keyed):
        assert same(boxes(model), expected)
    assert not same(boxes(model), expected)
    with permuted(model, permutations(model, ModelKey(b"\x02" * 32))):
        assert not same(boxes(model), expected)


def test_training_under_a_key_learns_for_permuted_maps_and_keeps_no_order() -> None:
    model = small_ssd().train()
    names = list(model.state_dict())
    targets = [{"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}]
    plain = sum(model(list(images(1)), targets).values())
    with permuted(model, permutations(model)):
        keyed = sum(model(list(images(1)), targets).values())
    assert not torch.isclose(plain, keyed)
    assert list(model.state_dict()) == names


def test_a_bundle_written_under_the_key_answers_as_the_plain_model(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    pixels = images(2)
    expected = model(pixels).detach()
    keyed = channel_permutations(model, ["1"], KEY.for_model(MODEL), size=SIZE)
    fold_permutations(model, keyed)
    assert not torch.allclose(model(pixels), expected, atol=1e-3)
    with permuted(model, keyed):
        done = bind(model, KEY, tmp_path / "keyed.mlgb", example=pixels)
    got = Session.open(done.path, KEY).run({"input": pixels.numpy()})["output"]
    assert np.allclose(got, expected, atol=1e-5)
    assert keyed[0].order.tobytes() not in done.path.read_bytes(), "sealed"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's older exporter warns
def test_a_detectors_bundle_written_under_the_key_finds_the_same_boxes(
    tmp_path: Path,
) -> None:
    model = small_ssd()
    expected, keyed = boxes(model), permutations(model)
    fold_permutations(model, keyed)
    with permuted(model, keyed):
        done = bind(
            model,
            KEY,
            tmp_path / "keyed.mlgb",
            example=images(2)[:1],
            pixels=Pixels((0.0,) * 3, (1.0,) * 3),
            answer=Answer("detection", ("background", "cat", "dog")),
        )
    session = Session.open(done.path, KEY, bare=True)
    got = [session.run({"images": one[None].numpy()}) for one in images(2)]
    as_tensors = [{n: torch.from_numpy(v) for n, v in one.items()} for one in got]
    assert len(expected[0]["boxes"]) > 0
    assert same(as_tensors, expected)
    task = Session.open(done.path, KEY).task
    assert task is not None
    assert task.name == "detection"


@pytest.mark.parametrize(
    ("layers", "refusal"),
    [
        ([], "no layer is named"),
        (["backbone.fourth"], "no layer 'backbone.fourth'$"),
        (["head"], "the output of 'head' is not a feature map"),
        (["backbone.fourth", "head.x"], "'backbone.fourth'; the model has no layer"),
    ],
)
def test_layers_that_cannot_be_keyed_are_refused(layers: list, refusal: str) -> None:
    subkeys = KEY.for_model(MODEL)
    with pytest.raises(BindingError, match=refusal):
        channel_permutations(small_ssd(), layers, subkeys, size=SIZE)


def test_a_model_that_does_not_run_at_a_size_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(BindingError, match="does not run on an image of 9 x 9 pixels"):
        channel_permutations(model, ["0"], KEY.for_model(MODEL), size=(9, 9))


def test_orders_of_another_model_are_refused() -> None:
    keyed = permutations(small_ssd())
    other = nn.Sequential(nn.Conv2d(3, 4, 1))
    with (
        pytest.raises(BindingError, match=r"no layer 'backbone\.first'"),
        permuted(other, keyed),
    ):
        pass
