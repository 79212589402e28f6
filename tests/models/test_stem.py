"""A stem that has absorbed a transform gives under it what it gave without."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.errors import BindingError
from mlguard.keys import ModelKey
from mlguard.models import Normalization
from mlguard.models.binding import (
    AffineBlocks,
    LiftedStem,
    absorb,
    affine_of,
    find_stem,
    form_of_stem,
    prepare_stem,
)
from mlguard.transforms import Transform, derive_transform
from tests.models.architectures import (
    ORDINARY,
    PATCH,
    apart,
    architecture,
    logits,
    patch_model,
)

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
OTHER = ModelKey(bytes(32)).for_model(bytes(16))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHAINS = [("shf",), ("np",), ("np", "shf"), ("orthogonal",)]
# What a stem absorbs does not depend on what follows it: the large models of the same
# kind take one chain, and all of them where there are minutes.
LARGE = {"fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"}
STEMS = [
    pytest.param(
        *(name, methods),
        id=f"{'+'.join(methods)}-{name}",
        marks=[pytest.mark.slow] if name in LARGE and len(methods) == 1 else [],
    )
    for name in ORDINARY
    for methods in CHAINS
]


def images(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, height, width), np.uint8)


def normalized(values: np.ndarray) -> Tensor:
    mean, std = (
        torch.tensor(numbers, dtype=torch.float64).view(3, 1, 1)
        for numbers in (IMAGENET.mean, IMAGENET.std)
    )
    return (torch.from_numpy(values).double() / 255 - mean) / std


def plain(pictures: np.ndarray) -> Tensor:
    return normalized(pictures)


def keyed(pictures: np.ndarray, transform: Transform) -> Tensor:
    return normalized(transform.values(pictures) * 255 / transform.scale)


def map_of(transform: Transform) -> AffineBlocks:
    return affine_of(transform).normalized(IMAGENET.mean, IMAGENET.std)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        *((7, 2, 3, 2), (7, 2, 3, 4), (7, 2, 3, 8), (3, 2, 1, 4), (3, 1, 1, 2)),
        *((3, 1, 1, 1), (5, 2, 2, 8), (4, 4, 0, 8), (7, 4, 3, 4), (7, 4, 3, 8)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_lifted_stem_gives_what_the_convolution_gives(
    kernel: int, stride: int, padding: int, size: int, bias: bool
) -> None:
    stem = nn.Conv2d(3, 5, kernel, stride=stride, padding=padding, bias=bias)
    lifted = prepare_stem(nn.Sequential(stem, nn.ReLU()), size)[0]
    assert isinstance(lifted, LiftedStem)
    pixels = torch.randn(2, 3, 24, 40)
    assert apart(lifted(pixels), stem(pixels)) < 1e-5


@pytest.mark.parametrize(("name", "methods"), STEMS)
def test_bound_convolution_stems_give_the_plain_logits(
    name: str, methods: tuple[str, ...]
) -> None:
    model, transform = architecture(name), derive_transform(methods, SUBKEYS, 4)
    expected = logits(model, plain(images()))
    assert form_of_stem(model, 4) == "lifted"
    absorb(prepare_stem(model, 4), map_of(transform))
    assert apart(logits(model, keyed(images(), transform)), expected) < 1e-9
    without, wrong = plain(images()), derive_transform(methods, OTHER, 4)
    assert apart(logits(model, without), expected) > 1e-2
    assert apart(logits(model, keyed(images(), wrong)), expected) > 1e-2


@pytest.mark.parametrize("name", PATCH)
@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_bound_patch_stems_give_the_plain_logits(
    name: str, methods: tuple[str, ...]
) -> None:
    model, patch = patch_model(name), PATCH[name][1]
    expected, weights = logits(model, plain(images())), set(model.state_dict())
    for size in {2, 4, patch}:
        transform = derive_transform(methods, SUBKEYS, size)
        bound = patch_model(name)
        assert form_of_stem(bound, size) == "patch"
        absorb(prepare_stem(bound, size), map_of(transform))
        assert apart(logits(bound, keyed(images(), transform)), expected) < 1e-9
        assert apart(logits(bound, plain(images())), expected) > 1e-2
        new = set(bound.state_dict()) - weights
        assert new <= {f"{find_stem(bound).name}.bias"}


@pytest.mark.parametrize("name", ["setr", "fcn_patch_small"])
@pytest.mark.parametrize("blocks", [(1, 1), (5, 3)])
def test_bound_patches_are_exact_at_every_image_size(
    name: str, blocks: tuple[int, int]
) -> None:
    patch = PATCH[name][1]
    pictures = images(*(patch * count for count in blocks))
    transform = derive_transform(("np", "shf"), SUBKEYS, patch)
    bound = absorb(prepare_stem(patch_model(name), patch), map_of(transform))
    expected = logits(patch_model(name), plain(pictures))
    assert apart(logits(bound, keyed(pictures, transform)), expected) < 1e-9


@pytest.mark.parametrize("block_size", [2, 8])
@pytest.mark.parametrize("size", [(16, 16), (16, 48), (40, 24)])
def test_borders_are_exact_at_every_image_size(
    size: tuple[int, int], block_size: int
) -> None:
    model = architecture("fcn_small")
    transform = derive_transform(("np", "shf"), SUBKEYS, block_size)
    expected = logits(model, plain(images(*size)))
    absorb(prepare_stem(model, block_size), map_of(transform))
    assert apart(logits(model, keyed(images(*size), transform)), expected) < 1e-9


def test_absorbing_the_inverse_undoes_it() -> None:
    model = architecture("fcn_small")
    prepare_stem(model, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    affine = map_of(derive_transform(("np", "shf"), SUBKEYS, 4))
    absorb(model, affine)
    assert apart(model.stem[0].windows.weight, before["stem.0.windows.weight"]) > 0.1
    absorb(model, affine.inverse())
    after = model.state_dict()
    assert max(float((after[n] - before[n]).abs().max()) for n in before) < 1e-12


def test_a_stem_without_image_offset_keeps_its_constant_at_zero() -> None:
    """Shuffling grey-normalized images has no offset, so nothing is added."""
    model, half = architecture("fcn_small"), Normalization()
    transform = derive_transform(("shf",), SUBKEYS, 4)
    affine = affine_of(transform).normalized(half.mean, half.std)
    absorb(prepare_stem(model, 4), affine)
    assert not model.stem[0].constant.weight.any()


class TwoReaders(nn.Module):
    """A model that looks at its images twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.first(pixels) + self.second(pixels)


def test_images_read_twice_are_refused() -> None:
    with pytest.raises(BindingError, match="read by first, second"):
        find_stem(TwoReaders())


@pytest.mark.parametrize(
    ("stem", "size", "problem", "hint"),
    [
        (nn.Conv2d(3, 4, 7, 2, 3), 1, "stride 2 does not divide 1", "2, 4, 8, 16"),
        (nn.Conv2d(3, 4, 3, 3, 0), 4, "stride 3 does not divide 4", "that fit: 1"),
        (nn.Conv2d(3, 4, 3, 2, 0), 4, "padding 0 leaves an output", "only the method"),
        (nn.Conv2d(3, 64, 7, 2, 3), 32, "it would have", "that fit: 2, 4, 8, 16"),
        (nn.Conv2d(3, 4, (3, 5), 1, 1), 4, "square windows", "only the method"),
        (nn.Conv2d(3, 4, 3, 1, 1, 2), 4, "dilated", "only the method"),
        (nn.Conv2d(3, 4, 3, padding="same"), 4, "square windows", "only the method"),
        (
            nn.Conv2d(3, 4, 3, 1, 1, padding_mode="reflect"),
            4,
            "padded",
            "only the method",
        ),
    ],
)
def test_stems_that_take_no_blocks_are_refused(
    stem: nn.Module, size: int, problem: str, hint: str
) -> None:
    with pytest.raises(BindingError, match=problem) as refusal:
        prepare_stem(nn.Sequential(stem), size)
    assert hint in refusal.value.hint


def test_an_unprepared_stem_absorbs_nothing() -> None:
    affine = map_of(derive_transform(("np",), SUBKEYS, 4))
    with pytest.raises(BindingError, match=r"stem.0 is not prepared for blocks of 4"):
        absorb(architecture("fcn_small"), affine)
    lifted = prepare_stem(architecture("fcn_small"), 8)
    with pytest.raises(BindingError, match=r"stem.0 is not prepared for blocks of 4"):
        absorb(lifted, affine)
    with pytest.raises(BindingError, match="has blocks of 8 x 8 pixels, not of 4 x 4"):
        prepare_stem(lifted, 4)
    stem = lifted.stem[0]
    assert prepare_stem(lifted, 8).stem[0] is stem


def test_a_model_that_branches_on_values_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels * 2 if pixels.sum() > 0 else pixels

    with pytest.raises(BindingError, match=r"torch\.fx cannot trace the model"):
        find_stem(Branching())
