"""When a report asks to be read with care, and when it does not."""

import numpy as np
import pytest

from mlguard.audit.findings.bootstrap import NearbyCounts, find
from mlguard.audit.findings.flags import flags_of
from tests.audits import findings, images

MANY = 40


def sound(**changes: object) -> set[str]:
    """Codes of an audit with nothing to flag, but for the changes."""
    fields = {
        "baseline": images(1.0, MANY),
        "correct": images(1.0, MANY),
        "no_key": images(0.5, MANY),
        "incorrect": [images(0.4, MANY)] * 20,
        "nearby": [],
    }
    found = findings(**(fields | changes))
    return {flag.code for flag in flags_of(found)}


def nearby(share: float, right: float) -> NearbyCounts:
    return NearbyCounts(share=share, changed=share, counts=[images(right, MANY)])


def test_a_sound_audit_is_flagged_only_for_its_absent_class() -> None:
    assert sound() == {"absent-classes"}


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("no-baseline", {"baseline": None}),
        ("few-keys", {"incorrect": [images(0.4, MANY)] * 19}),
        ("key-collision", {"same_transform": 1}),
        ("correct-below-baseline", {"correct": images(0.9, MANY)}),
        ("unauthorized-not-below-correct", {"no_key": images(1.0, MANY)}),
        ("nearby-keys-help", {"nearby": [nearby(0.25, 0.9)]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_reason_gives_its_flag(code: str, changes: dict[str, object]) -> None:
    assert sound(**changes) == {"absent-classes", code}


@pytest.mark.parametrize(
    ("share", "right"), [(0.0, 1.0), (0.3, 0.9), (0.25, 0.4)], ids=str
)
def test_nearby_keys_that_do_not_help_are_not_flagged(
    share: float, right: float
) -> None:
    assert sound(nearby=[nearby(share, right)]) == {"absent-classes"}


def test_nearby_keys_must_beat_the_best_incorrect_key() -> None:
    found = sound(nearby=[nearby(0.25, 0.8)], incorrect=[images(0.9, MANY)] * 20)
    assert "nearby-keys-help" not in found


def test_few_images_are_flagged() -> None:
    assert "few-images" in {flag.code for flag in flags_of(findings())}


def test_a_correct_key_within_the_noise_of_the_images_is_not_flagged() -> None:
    """Better on half of the images, worse on the other half."""
    one = np.concatenate([images(0.9, MANY // 2), images(0.7, MANY // 2)])
    other = np.concatenate([images(0.7, MANY // 2), images(0.9, MANY // 2)])
    assert "correct-below-baseline" not in sound(baseline=one, correct=other)


def test_a_worthless_baseline_is_flagged() -> None:
    worthless = images(0.45, MANY)
    assert "reference-near-floor" in sound(baseline=worthless, correct=worthless)


@pytest.mark.parametrize(("bits", "flagged"), [(79.9, True), (80.0, False)])
def test_a_small_key_space_is_flagged_below_80_bits(bits: float, flagged: bool) -> None:
    from tests.audits import NAMES, measured

    found = find(measured(), class_names=NAMES, key_space_bits=bits, seed=0)
    codes = {flag.code for flag in flags_of(found)}
    assert ("key-space-small" in codes) == flagged
