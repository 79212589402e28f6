"""The numpy reference: exact values, an exact way back, and what is refused."""

import copy
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlguard.errors import ShapeError
from mlguard.keys import ModelKey
from mlguard.rules import ORTHOGONAL_SIZES
from mlguard.transforms import (
    METHODS,
    Compose,
    FormatPreserving,
    NegativePositive,
    Orthogonal,
    PixelShuffle,
    derive_transform,
    format_preserving,
    key_space_bits,
    pad_to_blocks,
)
from tests.transforms.chains import CHAINS, FITTING, SUBKEYS, derived, images

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors/transforms.json").read_text()
)
IDENTITY = np.arange(256)


def cases(section: str) -> pytest.MarkDecorator:
    assert VECTORS[section], "the test would pass by testing nothing"
    ids = [case["comment"] for case in VECTORS[section]]
    return pytest.mark.parametrize("vector", VECTORS[section], ids=ids)


def picture(height: int, width: int) -> np.ndarray:
    """The picture of docs/spec/transforms-v1.md, section 8."""
    c, y, x = np.ogrid[:3, :height, :width]
    return (31 * c + 7 * y + 3 * x + x * y).astype(np.uint8)[None]


# Exact values


@cases("images")
def test_values_match_the_specification(vector: dict) -> None:
    subkeys = ModelKey(bytes.fromhex(vector["secret"])).for_model(
        bytes.fromhex(vector["protection_id"])
    )
    transform = derive_transform(vector["methods"], subkeys, vector["block_size"])
    values = transform.values(picture(vector["height"], vector["width"]))
    digest = hashlib.sha256(values.astype("<i4").tobytes()).hexdigest()
    assert digest == vector["sha256"]
    assert values.ravel().tolist() == vector.get("values", values.ravel().tolist())
    assert transform.scale == vector["scale"]


@cases("tables")
def test_encryption_table_matches_the_specification(vector: dict) -> None:
    table = format_preserving.encryption_table(bytes.fromhex(vector["password"]))
    assert table.tolist() == vector["table"]


def test_a_block_is_flattened_row_then_column_then_channel() -> None:
    first_four = [1, 2, 3, 0, *range(4, 12)]
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3).transpose(0, 3, 1, 2)
    shuffled = PixelShuffle(2, first_four).values(image)
    assert shuffled.transpose(0, 2, 3, 1).ravel().tolist() == first_four


def test_negative_positive_inverts_where_the_mask_is_set() -> None:
    transform = NegativePositive(1, np.array([True, False, True]))
    image = np.array([0, 10, 255], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert transform.values(image).ravel().tolist() == [255, 10, 0]


def test_format_preserving_divides_everything_by_the_largest_entry() -> None:
    table = IDENTITY + 500
    transform = FormatPreserving(1, np.array([True, False, False]), table)
    image = np.array([255, 151, 0], dtype=np.uint8).reshape(1, 3, 1, 1)
    expected = np.array([755, 151, 0], dtype=np.float32) / np.float32(755)
    np.testing.assert_array_equal(transform.apply(image).ravel(), expected)


def test_every_block_of_every_image_is_treated_alike() -> None:
    block = images(4, 4, count=1)
    tiled = np.tile(block, (2, 1, 3, 2))
    transform = derived(("np", "shf", "ffx"), 4)
    once = np.tile(transform.values(block), (2, 1, 3, 2))
    np.testing.assert_array_equal(transform.values(tiled), once)


def test_compose_applies_first_to_last() -> None:
    image = images(8, 8)
    shf, ffx = derived(("shf",), 4), derived(("ffx",), 4)
    both = Compose([shf, ffx]).values(image)
    np.testing.assert_array_equal(both, ffx.values(shf.values(image).astype(np.uint8)))
    assert (both != Compose([ffx, shf]).values(image)).any()


@pytest.mark.parametrize("methods", CHAINS)
def test_another_key_another_model_or_another_method_gives_other_values(
    methods: tuple[str, ...],
) -> None:
    """Also proves that the equalities above can fail."""
    image, seen = images(16, 16), set()
    other_key = ModelKey(bytes(32)).for_model(bytes(range(16)))
    other_model = ModelKey(bytes(range(32))).for_model(bytes(16))
    for subkeys in (SUBKEYS, other_key, other_model):
        seen.add(derive_transform(methods, subkeys, 4).values(image).tobytes())
    seen.add(derive_transform(methods, SUBKEYS, 8).values(image).tobytes())
    assert len(seen) == 4


# Range, inverse, padding


@pytest.mark.parametrize(("methods", "block_size"), FITTING)
def test_inverse_gives_the_image_back(
    methods: tuple[str, ...], block_size: int
) -> None:
    transform = derived(methods, block_size)
    image = images(block_size, 2 * block_size, count=1)
    shown = transform.apply(image)
    assert shown.dtype == np.float32
    assert (0 <= shown.min() <= shown.max() <= 1) == (methods != ("orthogonal",))
    np.testing.assert_array_equal(transform.inverse().apply(shown), image)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), size=st.sampled_from([1, 2, 4]))
def test_inverse_undoes_any_explicit_transform(data: st.DataObject, size: int) -> None:
    length = 3 * size**2
    flags = st.lists(st.booleans(), min_size=length, max_size=length).map(np.array)
    order = data.draw(st.permutations(range(length)))
    table = data.draw(
        st.lists(st.integers(0, 999), min_size=256, max_size=256, unique=True)
    )
    transform = Compose(
        [
            NegativePositive(size, data.draw(flags)),
            FormatPreserving(size, data.draw(flags), table),
            PixelShuffle(size, order),
        ]
    )
    image = images(2 * size, 3 * size)
    np.testing.assert_array_equal(
        transform.inverse().apply(transform.apply(image)), image
    )


def test_inverse_refuses_pixels_no_image_gives() -> None:
    transform = FormatPreserving(1, np.array([True] * 3), IDENTITY * 3)
    pixels = np.full((1, 3, 1, 1), 1 / 765, dtype=np.float32)  # 1 is not in the table
    with pytest.raises(ValueError, match="no image gives these pixels"):
        transform.inverse().apply(pixels)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_inverse_refuses_pixels_outside_zero_to_one(value: float) -> None:
    pixels = np.full((1, 3, 2, 2), value, dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\]"):
        derived(("shf",), 2).inverse().apply(pixels)


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_padding_reaches_the_next_multiple_and_keeps_the_image(
    height: int, width: int
) -> None:
    image = images(height, width)
    padded = pad_to_blocks(image, 8)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert padded.shape[2] - height < 8
    assert padded.shape[3] - width < 8
    np.testing.assert_array_equal(padded[..., :height, :width], image)
    assert (padded[..., height:, :width] == image[..., -1:, :]).all()
    assert (padded[..., :height, width:] == image[..., :, -1:]).all()
    derived(("shf",), 8).apply(padded)


def test_padding_nothing_copies_nothing() -> None:
    image = images(8, 16)
    assert pad_to_blocks(image, 8) is image


# Key space


@pytest.mark.parametrize(
    ("methods", "block_size", "bits"),
    [
        (["shf"], 2, 28.8),
        (["shf"], 4, 202.9),
        (["np"], 2, 9.9),
        (["np"], 4, 44.9),
        (["np"], 8, 187.9),
        (["ffx"], 4, 44.9),
        (["np", "shf", "ffx"], 2, 48.5),
    ],
)
def test_key_space_is_that_of_the_papers(
    methods: list[str], block_size: int, bits: float
) -> None:
    assert key_space_bits(methods, block_size) == pytest.approx(bits, abs=0.06)
    assert derived(tuple(methods), block_size).key_space_bits == pytest.approx(
        key_space_bits(methods, block_size)
    )


def test_blocks_of_two_have_924_masks() -> None:
    assert key_space_bits(["np"], 2) == pytest.approx(np.log2(924))


# Refusals


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 8, 8), r"expected images \(N, 3, H, W\), got \(3, 8, 8\)"),
        ((1, 1, 8, 8), r"expected images \(N, 3, H, W\)"),
        ((1, 3, 0, 8), r"expected images \(N, 3, H, W\)"),
        ((1, 3, 8, 6), "expected height and width divisible by 4, got 8×6"),
    ],
)
def test_images_of_another_shape_are_refused(shape: tuple, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        derived(("shf",), 4).apply(np.zeros(shape, dtype=np.uint8))


def test_a_shape_refusal_says_how_to_pad() -> None:
    with pytest.raises(ShapeError, match="divisible") as refusal:
        derived(("shf",), 4).apply(images(5, 5))
    assert "pad_to_blocks" in refusal.value.hint


def test_images_of_another_type_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected uint8 images, got float32"):
        derived(("shf",), 4).apply(images(8, 8).astype(np.float32))


def test_padding_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ShapeError, match="expected at least one pixel, got 0×4"):
        pad_to_blocks(np.zeros((1, 3, 0, 4), dtype=np.uint8), 4)


@pytest.mark.parametrize("block_size", [0, -1, 3, 512])
def test_another_block_size_is_refused(block_size: int) -> None:
    with pytest.raises(ValueError, match="expected a block size of 1, 2, 4"):
        derived(("shf",), block_size)
    with pytest.raises(ValueError, match="expected a block size of 1, 2, 4"):
        key_space_bits(["shf"], block_size)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ([], "expected different methods"),
        (["shf", "shf"], "expected different methods"),
        (["rot13"], "expected methods of shf, np, ffx, orthogonal, got rot13"),
        (["ffx", "np"], "np works on 0…255, so it must come before ffx"),
        (["ffx", "shf", "np"], "np works on 0…255, so it must come before ffx"),
    ],
)
def test_methods_that_do_not_fit_are_refused(methods: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        derive_transform(methods, SUBKEYS, 4)
    with pytest.raises(ValueError, match=words):
        key_space_bits(methods, 4)


def test_a_string_is_not_a_list_of_methods() -> None:
    with pytest.raises(TypeError, match="expected a sequence of methods"):
        derive_transform("np", SUBKEYS, 4)


def test_transforms_of_different_block_sizes_cannot_be_composed() -> None:
    with pytest.raises(ValueError, match=r"expected one block size, got \[2, 4\]"):
        Compose([derived(("shf",), 2), derived(("np",), 4)])


@pytest.mark.parametrize(
    "order", [[0, 1], [0, 0, 1], [1, 2, 3], [[0, 1, 2]], [-1, 0, 1]]
)
def test_an_order_that_is_no_permutation_is_refused(order: list) -> None:
    with pytest.raises(ValueError, match="expected a permutation of 0…2"):
        PixelShuffle(1, order)


@pytest.mark.parametrize("mask", [np.ones(4, bool), np.ones(3), np.ones((1, 3), bool)])
def test_a_mask_that_does_not_fit_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected 3 booleans"):
        NegativePositive(1, mask)
    with pytest.raises(ValueError, match="expected 3 booleans"):
        FormatPreserving(1, mask, IDENTITY)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.arange(255), "expected 256 integers"),
        (np.arange(256.0), "expected 256 integers"),
        (IDENTITY // 2, "expected a table of different entries"),
        (IDENTITY - 1, "expected table entries in 0…16777215"),
        (IDENTITY + (1 << 24), "expected table entries in 0…16777215"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FormatPreserving(1, np.array([True, False, True]), table)


def test_a_machine_on_which_pyffx_is_wrong_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(format_preserving, "KNOWN_ANSWER", (0,) * 8)
    with pytest.raises(RuntimeError, match="pyffx gives wrong numbers on this machine"):
        format_preserving.encryption_table(b"password")


# Key material


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_printing_shows_no_order_mask_or_table(methods: tuple[str, ...]) -> None:
    transform, other = derived(methods, 2), ModelKey(bytes(32)).for_model(bytes(16))
    assert repr(transform) == repr(derive_transform(methods, other, 2))
    assert repr(transform.inverse()) == f"Inverse({transform!r})"


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
@pytest.mark.parametrize("copier", [pickle.dumps, copy.deepcopy])
def test_a_transform_refuses_to_be_pickled(methods: tuple[str, ...], copier) -> None:
    transform = derived(methods, 2)
    with pytest.raises(TypeError, match="key material and is never pickled"):
        copier(transform)
    with pytest.raises(TypeError, match="key material and is never pickled"):
        copier(transform.inverse())


def test_arrays_of_a_transform_are_read_only() -> None:
    for name, tensor in derived(("np", "shf", "ffx"), 2).slots().items():
        with pytest.raises(ValueError, match="read-only"):
            tensor[...] = 0
        assert name


def test_a_transform_does_not_follow_changes_of_the_array_it_was_given() -> None:
    mask = np.array([True, False, True])
    transform = NegativePositive(1, mask)
    mask[:] = False
    assert transform.mask.tolist() == [True, False, True]


def test_methods_are_listed_once() -> None:
    assert METHODS == ("shf", "np", "ffx", "orthogonal")


# The orthogonal map


@pytest.mark.parametrize("size", ORTHOGONAL_SIZES)
def test_the_orthogonal_map_is_orthogonal_and_made_of_whole_numbers(size: int) -> None:
    matrix = derived(("orthogonal",), size).matrix.astype(np.int64)
    expected = size**4 * np.eye(3 * size**2, dtype=np.int64)
    np.testing.assert_array_equal(matrix @ matrix.T, expected)
    mixing = (matrix != 0).mean()
    assert mixing > 0.5, "or it moves values and mixes none"


@pytest.mark.parametrize("size", ORTHOGONAL_SIZES)
def test_no_sum_of_the_orthogonal_map_leaves_what_float32_holds(size: int) -> None:
    matrix = np.abs(derived(("orthogonal",), size).matrix.astype(np.int64))
    largest = int(matrix.sum(1).max()) * 255 + 255 * size**2
    assert largest < 2**24


def test_the_orthogonal_map_keeps_lengths() -> None:
    transform, image = derived(("orthogonal",), 4), images(16, 16)
    before = image.astype(np.float64) / 255 - 0.5
    after = transform.apply(image).astype(np.float64) - 0.5
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "change", "words"),
    [
        (32, {}, "orthogonal works on blocks of 2, 4, 8, 16 pixels, got 32"),
        (2, {"orders": np.zeros((2, 12), np.int64)}, "expected 2 permutations"),
        (2, {"orders": np.zeros((1, 12), np.int64)}, "expected 2 permutations"),
        (2, {"signs": np.zeros((2, 12), np.float32)}, "signs of \\+1 or -1"),
    ],
)
def test_what_is_no_orthogonal_map_is_refused(
    size: int, change: dict, words: str
) -> None:
    one = derived(("orthogonal",), 2)
    given = {"orders": one.orders, "signs": one.signs.astype(np.float32)} | change
    with pytest.raises(ValueError, match=words):
        Orthogonal(size, **given)


def test_orthogonal_stands_alone() -> None:
    with pytest.raises(ValueError, match="orthogonal mixes whole blocks"):
        derive_transform(("shf", "orthogonal"), SUBKEYS, 4)
