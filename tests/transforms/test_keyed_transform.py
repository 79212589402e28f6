"""The torch back-end gives the bits that numpy gives, and keeps no state."""

import pickle

import numpy as np
import pyffx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlguard.errors import ShapeError
from mlguard.keys import ModelKey
from mlguard.models.conditions import (
    TorchTransform,
    image_transforms,
    plain,
    torch_transform,
)
from mlguard.transforms import (
    FormatPreserving,
    NegativePositive,
    Transform,
    derive_transform,
)
from mlguard.transforms.format_preserving import encryption_table
from tests.transforms.chains import CHAINS, FITTING, derived, images


@pytest.mark.parametrize(("methods", "block_size"), FITTING)
def test_torch_gives_the_bits_numpy_gives(
    methods: tuple[str, ...], block_size: int
) -> None:
    transform = derived(methods, block_size)
    image = images(block_size, 2 * block_size)
    got = torch_transform(transform)(torch.from_numpy(image)).numpy()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, transform.apply(image))


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_another_key_gives_other_bits(methods: tuple[str, ...]) -> None:
    """Also proves that the test above can fail."""
    image = torch.from_numpy(images(8, 8))
    other = ModelKey(bytes(32)).for_model(bytes(range(16)))
    got = torch_transform(derive_transform(methods, other, 4))(image)
    assert (got.numpy() != derived(methods, 4).apply(image.numpy())).any()


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 6), width=st.integers(1, 6), count=st.integers(0, 3))
def test_any_height_width_and_count(height: int, width: int, count: int) -> None:
    transform = derived(("np", "shf", "ffx"), 2)
    image = images(2 * height, 2 * width, count=count)
    got = TorchTransform(transform)(torch.from_numpy(image))
    np.testing.assert_array_equal(got.numpy(), transform.apply(image))


def published(block: NDArray[np.float32], mask: NDArray[np.bool_], name: str) -> object:
    """One block as the research code transforms it: floats, and the whole table."""
    if name == "np":
        return np.where(mask, np.float32(1) - block, block)
    cipher = pyffx.Integer(b"password", length=3)
    table = np.array([cipher.encrypt(v) for v in range(256)], dtype=np.float32)
    values = (block * 255).astype(np.int64)
    return np.where(mask, table[values], values.astype(np.float32)) / table.max()


@pytest.mark.parametrize("name", ["np", "ffx"])
def test_transforms_published_elsewhere_can_be_reproduced(name: str) -> None:
    """Research code takes the mask `randperm(L) > L / 2`: one fewer than half."""
    drawn = torch.randperm(12, generator=torch.Generator().manual_seed(42))
    mask = (drawn > 12 / 2).numpy()
    assert mask.sum() == 5
    image = images(2, 2, count=1)
    table = encryption_table(b"password")
    ours = {"np": NegativePositive(2, mask), "ffx": FormatPreserving(2, mask, table)}
    flat = image[0].transpose(1, 2, 0).ravel() / np.float32(255)
    expected = published(flat, mask, name)
    got = TorchTransform(ours[name])(torch.from_numpy(image))
    np.testing.assert_allclose(got[0].permute(1, 2, 0).ravel(), expected, atol=1e-7)
    assert ours[name].key_space_bits == pytest.approx(np.log2(792))  # not 924


def test_a_table_that_stays_within_bytes_is_still_a_table() -> None:
    table, mask = np.roll(np.arange(256), 7), np.array([True, False, True])
    transform, image = FormatPreserving(1, mask, table), images(8, 8)
    got = TorchTransform(transform)(torch.from_numpy(image)).numpy()
    np.testing.assert_array_equal(got, transform.apply(image))


def test_images_in_channels_last_memory_give_the_same() -> None:
    transform, image = derived(("shf", "ffx"), 4), torch.from_numpy(images(8, 12))
    laid_out = image.to(memory_format=torch.channels_last)
    keyed = TorchTransform(transform)
    assert torch.equal(keyed(laid_out), keyed(image))


def test_many_image_sizes_keep_few_tables() -> None:
    transform = derived(("np", "shf"), 2)
    keyed = TorchTransform(transform)
    for height in range(2, 2 * 2 * image_transforms.MAX_SIZES, 2):
        image = images(height, 2)
        got = keyed(torch.from_numpy(image)).numpy()
        np.testing.assert_array_equal(got, transform.apply(image))
    assert len(keyed._sizes) <= image_transforms.MAX_SIZES


def test_plain_is_the_image_divided_by_255() -> None:
    image = images(16, 16)
    expected = image.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(plain(torch.from_numpy(image)).numpy(), expected)


def test_a_module_that_holds_it_has_no_key_in_its_state() -> None:
    module = torch.nn.Conv2d(3, 1, 1)
    module.keyed = TorchTransform(derived(("np", "shf", "ffx"), 4))
    assert set(module.state_dict()) == {"weight", "bias"}


def test_it_shows_no_key_and_refuses_to_be_pickled() -> None:
    keyed = TorchTransform(derived(("shf",), 4))
    assert repr(keyed) == "TorchTransform(PixelShuffle(block_size=4), device='cpu')"
    with pytest.raises(TypeError, match="key material and is never pickled"):
        pickle.dumps(keyed)


def test_images_that_do_not_fit_are_refused() -> None:
    keyed = TorchTransform(derived(("shf",), 4))
    with pytest.raises(ShapeError, match="divisible by 4, got 8×6"):
        keyed(torch.zeros(1, 3, 8, 6, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"expected uint8 images, got torch\.float32"):
        keyed(torch.zeros(1, 3, 8, 8))


def test_a_transform_without_a_torch_back_end_is_refused() -> None:
    class Unknown(type(derived(("shf",), 4)).__base__):
        def __init__(self) -> None:
            Transform.__init__(self, 4)

        derive = key_space = key_space_bits = slots = None
        transform_blocks = restore_blocks = None

    with pytest.raises(TypeError, match="no torch back-end for Unknown"):
        TorchTransform(Unknown())


@pytest.mark.gpu
@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_a_gpu_gives_the_bits_numpy_gives(methods: tuple[str, ...]) -> None:
    transform, image = derived(methods, 4), images(64, 96)
    on_gpu = torch.from_numpy(image).cuda()
    got = torch_transform(transform, "cuda")(on_gpu).cpu().numpy()
    np.testing.assert_array_equal(got, transform.apply(image))
    np.testing.assert_array_equal(
        plain(on_gpu).cpu().numpy(), image.astype(np.float32) / np.float32(255)
    )
