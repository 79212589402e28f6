"""The fast way of numpy gives the bits that the definition gives."""

import pickle

import numpy as np
import pytest

from mlguard.transforms import Compose, FormatPreserving, NegativePositive, Transform
from mlguard.transforms import lookups as fast
from mlguard.transforms.lookups import Lookups
from tests.transforms.chains import CHAINS, FITTING, derived, images

SLOW = Transform.values


def defined(transform: Transform, image: np.ndarray) -> np.ndarray:
    """What docs/spec/transforms-v1.md says, one step after the other."""
    return SLOW(transform, image).astype(np.float32) / np.float32(transform.scale)


@pytest.mark.parametrize(("methods", "size"), FITTING)
def test_apply_gives_the_bits_of_the_definition(methods, size) -> None:
    transform, image = derived(methods, size), images(size, 2 * size)
    np.testing.assert_array_equal(transform.apply(image), defined(transform, image))


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
@pytest.mark.parametrize("values", [1, 1000, 3000])
def test_strips_need_not_divide_the_image(methods, values, monkeypatch) -> None:
    monkeypatch.setattr(fast, "STRIP_VALUES", values)
    transform, image = derived(methods, 4), images(44, 28)
    np.testing.assert_array_equal(transform.apply(image), defined(transform, image))


def test_images_are_not_changed_and_need_not_be_in_one_piece() -> None:
    image = images(16, 32).transpose(0, 1, 3, 2)[:, :, ::-1]
    before, transform = image.copy(), derived(("np", "shf", "ffx"), 4)
    np.testing.assert_array_equal(transform.apply(image), defined(transform, image))
    np.testing.assert_array_equal(image, before)


def test_a_table_that_only_inverts_is_still_a_table() -> None:
    inverting = 255 - np.arange(256)
    mask, other = np.arange(12) < 5, np.arange(12) > 3
    chain = Compose([NegativePositive(2, mask), FormatPreserving(2, other, inverting)])
    image = images(8, 8)
    np.testing.assert_array_equal(chain.apply(image), defined(chain, image))


def test_another_strip_is_seen() -> None:
    transform, image = derived(("shf",), 4), images(16, 16)
    turned = transform.apply(image[:, :, ::-1])
    assert not np.array_equal(turned, defined(transform, image))


def test_tables_of_few_sizes_are_kept() -> None:
    transform = derived(("shf",), 2)
    for width in range(2, 2 + 4 * fast.MAX_SIZES, 2):
        transform.apply(images(2, width))
    assert len(transform._strips._spreads) <= fast.MAX_SIZES


def test_lookups_show_no_key_and_refuse_to_be_pickled() -> None:
    transform = derived(("ffx",), 2)
    transform.apply(images(4, 4))
    spread = next(iter(transform._strips._spreads.values()))
    assert "array" not in f"{transform.lookups!r} {transform._strips!r} {spread!r}"
    for secret in (transform.lookups, transform._strips):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(secret)


def test_what_is_no_lookup_says_so() -> None:
    assert derived(("orthogonal",), 2).lookups is None
    assert isinstance(derived(("shf",), 2).lookups, Lookups)
