"""What was done to columns is found where it is known, and not found in noise."""

import numpy as np
import pytest

from mlguard.audit.attacks.ancestor.maps import (
    directions,
    explained,
    inverse,
    mixtures,
    rotation,
    two_sided,
)

CHANNELS, OUTPUTS = 40, 24


def drifted(rows: np.ndarray, share: float = 0.1) -> np.ndarray:
    """As fine-tuning leaves them."""
    noise = np.random.default_rng(9).normal(size=rows.shape)
    return rows + share * rows.std() * noise


@pytest.fixture
def known() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(CHANNELS, OUTPUTS))


def signed_permutation(seed: int = 2) -> np.ndarray:
    draw = np.random.default_rng(seed)
    matrix = np.eye(CHANNELS)[draw.permutation(CHANNELS)]
    return matrix * draw.choice([-1.0, 1.0], CHANNELS)[:, None]


def turned(size: int, seed: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.linalg.qr(draw.normal(size=(size, size)))[0]


def mixed(parts: int, seed: int = 4) -> np.ndarray:
    """Shuffled, then mixed in groups."""
    draw = np.random.default_rng(seed)
    blocks = [turned(parts, seed + index) for index in range(CHANNELS // parts)]
    groups = np.zeros((CHANNELS, CHANNELS))
    for index, block in enumerate(blocks):
        own = slice(index * parts, (index + 1) * parts)
        groups[own, own] = block
    return groups @ np.eye(CHANNELS)[draw.permutation(CHANNELS)]


def test_directions_find_a_signed_permutation(known) -> None:
    true = signed_permutation()
    assert np.array_equal(directions(drifted(true @ known), known), true)


def test_directions_find_scales_where_somebody_changed_them(known) -> None:
    scales = np.exp(np.random.default_rng(5).normal(size=(CHANNELS, 1)))
    true = scales * signed_permutation()
    found = directions(drifted(true @ known, 0.01), known)
    assert np.array_equal(found != 0, true != 0)
    assert found == pytest.approx(true, rel=0.2)


def test_a_rotation_is_found_and_undone(known) -> None:
    wide = np.random.default_rng(6).normal(size=(CHANNELS, 3 * CHANNELS))
    true = turned(CHANNELS)
    found = rotation(drifted(true @ wide), wide)
    assert np.linalg.norm(found - true) < 0.2 * np.linalg.norm(true)
    assert explained(inverse(found) @ true @ wide, wide, np.eye(CHANNELS)) > 0.95


@pytest.mark.parametrize("signs", [False, True])
def test_a_permutation_is_found_though_the_outputs_were_turned(signs) -> None:
    known = np.random.default_rng(1).normal(size=(CHANNELS, OUTPUTS))
    true = signed_permutation()
    true = true if signs else np.abs(true)
    found = two_sided(drifted(true @ known @ turned(OUTPUTS), 0.05), known)
    assert np.mean(np.abs(found).argmax(1) == np.abs(true).argmax(1)) > 0.9
    agree = np.abs((found * true).sum()) / CHANNELS  # all turned over is as good
    assert agree > 0.9


def test_one_side_alone_finds_nothing_where_both_were_changed(known) -> None:
    """Or the test above would say nothing."""
    both = signed_permutation() @ known @ turned(OUTPUTS)
    right = np.abs(directions(both, known)).argmax(1)
    assert np.mean(right == np.abs(signed_permutation()).argmax(1)) < 0.3


def test_columns_mixed_in_groups_are_solved_for() -> None:
    wide = np.random.default_rng(7).normal(size=(CHANNELS, 3 * CHANNELS))
    true = mixed(4)
    found = mixtures(drifted(true @ wide, 0.01), wide, parts=4)
    assert np.linalg.norm(found - true) < 0.2 * np.linalg.norm(true)


@pytest.mark.parametrize("estimate", [directions, two_sided])
def test_unrelated_rows_are_explained_by_nothing(known, estimate) -> None:
    unrelated = np.random.default_rng(8).normal(size=known.shape)
    assert explained(unrelated, known, estimate(unrelated, known)) < 0.5


@pytest.mark.parametrize("estimate", [directions, rotation, two_sided])
def test_rows_of_zeros_make_no_numbers_that_are_not_finite(known, estimate) -> None:
    stolen = known.copy()
    stolen[:3] = 0.0
    assert np.isfinite(inverse(estimate(stolen, known))).all()
