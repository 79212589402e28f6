"""Which incorrect and nearby keys an audit tries."""

import hmac

import numpy as np
import pytest

from mlguard import recipe
from mlguard.audit.target.transforms import AuditTransforms, incorrect_key
from mlguard.keys import ModelSubkeys
from mlguard.transforms import TransformSet, derive_transform
from mlguard.transforms.choice import permutation
from mlguard.transforms.nearby import changed_share, moved, nearby, reshuffled, same
from tests.audits import KEY, OTHER_KEY, PROTECTION_ID

SUBKEYS = KEY.for_model(PROTECTION_ID)
POSITIONS = permutation(bytes(32), 48)


def derived(methods: tuple[str, ...], size: int) -> TransformSet:
    return TransformSet(derive_transform(methods, SUBKEYS, size))


def shuffled(subkeys: ModelSubkeys) -> TransformSet:
    return TransformSet(derive_transform(("shf",), subkeys, 4))


def ids(subkeys: ModelSubkeys) -> list[str]:
    return [incorrect_key(subkeys, index).key_id for index in range(3)]


def tried(seed: int, number: int = 1) -> AuditTransforms:
    settings = recipe.Audit(seed=seed, incorrect_keys=number)
    return AuditTransforms.derive(shuffled(SUBKEYS), shuffled, SUBKEYS, settings)


def test_one_model_has_the_same_keys_and_another_has_others() -> None:
    assert ids(SUBKEYS) == ids(SUBKEYS)
    assert not set(ids(SUBKEYS)) & set(ids(KEY.for_model(bytes(16))))
    assert len(set(ids(SUBKEYS))) == 3


def test_no_owner_chooses_the_keys_tried_by_their_seed() -> None:
    one, other = tried(0, number=2), tried(1, number=3)
    both = zip(one.incorrect, other.incorrect[:2], strict=True)
    assert all(same(*pair) for pair in both)
    near, far = one.nearby[0][1], other.nearby[0][1]
    assert all(same(*pair) for pair in zip(near, far, strict=True))


def test_the_keys_tried_cannot_be_computed_without_the_correct_key() -> None:
    """Else a report that says which try scored best would hand that key out."""
    assert not set(ids(SUBKEYS)) & set(ids(OTHER_KEY.for_model(PROTECTION_ID)))


def test_incorrect_transforms_are_derived_for_this_model_like_the_correct_one() -> None:
    (first,) = tried(0).incorrect
    key = incorrect_key(SUBKEYS, 0)
    assert same(first, shuffled(key.for_model(PROTECTION_ID)))
    assert not same(first, shuffled(SUBKEYS))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("methods", [("shf",), ("np",), ("ffx",), ("np", "shf")])
def test_a_nearby_key_differs_by_the_share_asked_for(
    methods: tuple[str, ...], share: float
) -> None:
    correct = derived(methods, 4)
    other = nearby(correct, share, subkeys=SUBKEYS, use="test")
    assert changed_share(correct, other) == pytest.approx(share, abs=1.5 / 48)
    assert same(correct, other) == (share == 0.0)


def test_the_smallest_share_still_changes_something() -> None:
    for method in ("shf", "np"):
        correct = derived((method,), 2)
        other = nearby(correct, 0.001, subkeys=SUBKEYS, use="test")
        assert changed_share(correct, other) == pytest.approx(2 / 12)


def test_a_nearby_ffx_key_keeps_the_table() -> None:
    correct = derived(("ffx",), 4)
    other = nearby(correct, 0.5, subkeys=SUBKEYS, use="test")
    assert (other.slots()["ffx.table"] == correct.slots()["ffx.table"]).all()
    assert (other.slots()["ffx.mask"] != correct.slots()["ffx.mask"]).any()


def test_another_use_gives_another_neighbour() -> None:
    correct = derived(("shf",), 4)
    one = nearby(correct, 0.5, subkeys=SUBKEYS, use="one")
    assert same(one, nearby(correct, 0.5, subkeys=SUBKEYS, use="one"))
    assert not same(one, nearby(correct, 0.5, subkeys=SUBKEYS, use="other"))


def test_a_reshuffled_order_is_still_a_permutation() -> None:
    order = permutation(bytes([1]) * 32, 48)
    changed = reshuffled(order, 0.3, POSITIONS)
    assert sorted(changed) == list(range(48))
    assert int((changed != order).sum()) == round(0.3 * 48)


def test_a_moved_mask_has_as_many_positions_set() -> None:
    mask = np.arange(48) < 24
    changed = moved(mask, 0.25, POSITIONS)
    assert changed.sum() == mask.sum()
    assert int((changed != mask).sum()) == 12


def test_a_mask_of_one_position_can_move_no_further_than_it_has_room() -> None:
    changed = moved(np.array([True, False, False]), 1.0, np.arange(3))
    assert changed.tolist() == [False, True, False]


def test_incorrect_keys_are_the_ones_the_spec_says() -> None:
    """HKDF written out by hand: docs/spec/audit-v4.md, section 2."""

    def hkdf(secret: bytes, salt: bytes, info: str) -> bytes:
        extracted = hmac.digest(salt, secret, "sha256")
        return hmac.digest(extracted, info.encode() + b"\x01", "sha256")

    use = "mlguard/v1/audit/incorrect-key=2"
    secret = hkdf(KEY.reveal(), PROTECTION_ID, use)
    assert incorrect_key(SUBKEYS, 2).reveal() == secret
