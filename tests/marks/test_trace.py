"""Whose copy it is, after what a leak goes through; and nobody where that is so."""

from collections.abc import Callable

import numpy as np
import pytest

from mlguard.marks import embed, gather, trace
from mlguard.marks.alignment import pairs
from mlguard.marks.tracing import false_alarm
from tests.marks.leaked import (
    ALICE,
    BOB,
    CUSTOMERS,
    SUBKEYS,
    Weights,
    noisy,
    pruned,
    quantized,
    reordered,
    weights,
)

LEAKS: dict[str, Callable[[Weights], Weights]] = {
    "as it was": lambda w: w,
    "fp16": lambda w: {n: one.astype(np.float16) for n, one in w.items()},
    "int8": lambda w: quantized(w, 8),
    "int4": lambda w: quantized(w, 4),
    "30 % pruned": lambda w: pruned(w, 0.3),
    "60 % pruned": lambda w: pruned(w, 0.6),
    "noise": lambda w: noisy(w, 0.05),
    "permuted": lambda w: reordered(w, scales=False),
    "permuted, rescaled, negated": reordered,
    "permuted, rescaled, negated, int8": lambda w: quantized(reordered(w), 8),
    "renamed": lambda w: {f"onnx::Conv_{i}": w[n] for i, n in enumerate(w)},
    "turned": lambda w: w | {"head.weight": w["head.weight"].T},
    "renamed and permuted": lambda w: dict(
        zip("abcdef", reordered(w).values(), strict=True)
    ),
    "norms folded": lambda w: {
        n: one * np.linspace(0.2, 5, len(one)).reshape(-1, *[1] * (one.ndim - 1))
        for n, one in w.items()
    },
    "unsigned integers": lambda w: {
        n: (np.rint(one / np.abs(one).max() * 127) + 128).astype(np.uint8)
        for n, one in w.items()
    },
    "noisy copies under their names": lambda w: decoyed(w, "noisy"),
    "many noisy copies, all renamed": lambda w: decoyed(w, *"abcdefgh"),
    "among others": lambda w: weights(8) | w | {"text": np.zeros((3, 0), "f4")},
    "a part of it": lambda w: {"head.weight": w["head.weight"]},
    "numbers that are none": lambda w: {n: spoiled(one) for n, one in w.items()},
    # In a channel that is switched off, a thief may write what he likes.
    "a huge number in each": lambda w: written(w, slice(1, 2)),
    "a huge row in each": lambda w: written(w, slice(None)),
    "half a row in each": lambda w: written(w, slice(0, None, 2), 4.0),
}


def spoiled(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    return values


def decoyed(given: Weights, *kinds: str) -> Weights:
    """Noisy copies that nobody uses, the first under the true names; then the rest."""
    found = {}
    for seed, kind in enumerate(kinds):
        for name, one in given.items():
            noise = np.random.default_rng(seed).standard_normal(one.shape)
            copy = (one + 0.7 * one.std() * noise).astype("f4")
            found[f"{kind}.{name}" if len(kinds) > 1 else name] = copy
    real = reordered(given)
    return found | {f"used.{name}": one for name, one in real.items()}


def written(given: Weights, part: slice, size: float = 1e6) -> Weights:
    """Weights with numbers of a thief's in a part of one row of each tensor."""
    draw, found = np.random.default_rng(5), {}
    for name, one in given.items():
        found[name] = one.copy()
        row = found[name][3:4].reshape(-1)  # a view
        row[part] = draw.normal(0, size, row[part].shape)
    return found


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_the_customer_is_named_and_nobody_else(leak) -> None:
    found = trace(leak(embed(weights(), SUBKEYS, BOB)), weights(), CUSTOMERS, SUBKEYS)
    assert [one.customer for one in found.named] == ["Bob"]
    assert found.findings[0].false_alarm < 1e-6
    assert abs(found.findings[1].z) < 4


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_nobody_is_named_for_a_copy_without_a_mark(leak) -> None:
    found = trace(leak(weights()), weights(), CUSTOMERS, SUBKEYS)
    assert found.named == ()


def test_nobody_is_named_for_weights_of_another_model() -> None:
    found = trace(weights(1), weights(), CUSTOMERS, SUBKEYS)
    assert (found.named, found.related, found.compared) == ((), False, 0)
    assert [one.z for one in found.findings] == [0, 0, 0]


def test_nobody_is_named_under_another_key() -> None:
    other = type(SUBKEYS)(SUBKEYS._key, bytes([9] * 16))
    leak = embed(weights(), SUBKEYS, BOB)
    assert trace(leak, weights(), CUSTOMERS, other).named == ()
    assert trace(leak, weights(), CUSTOMERS, SUBKEYS).named  # the twin


@pytest.mark.parametrize("middle", [False, True])
def test_everybody_whose_copy_was_mixed_is_named(middle: bool) -> None:
    copies = [embed(weights(), SUBKEYS, grant) for grant in (ALICE, BOB)]
    stacks = {n: np.stack([one[n] for one in copies]) for n in weights()}
    leak = {
        n: (one.min(0) + one.max(0)) / 2 if middle else one.mean(0)
        for n, one in stacks.items()
    }
    found = trace(leak, weights(), CUSTOMERS, SUBKEYS)
    assert {one.customer for one in found.named} == {"Alice", "Bob"}


def test_everybody_whose_copy_is_in_the_file_is_named() -> None:
    copies = [embed(weights(), SUBKEYS, grant) for grant in (ALICE, BOB)]
    leak = copies[0] | {f"second.{name}": one for name, one in copies[1].items()}
    found = trace(leak, weights(), CUSTOMERS, SUBKEYS)
    assert {one.customer for one in found.named} == {"Alice", "Bob"}


def test_integer_weights_are_traced_too() -> None:
    steps = {n: (1000 * one).clip(-127, 127) for n, one in weights().items()}
    own = {n: one.astype(np.int8) for n, one in steps.items()}
    found = trace(embed(own, SUBKEYS, BOB), own, CUSTOMERS, SUBKEYS)
    assert [one.customer for one in found.named] == ["Bob"]
    assert trace(own, own, CUSTOMERS, SUBKEYS).named == ()


def test_innocent_codes_have_a_standard_normal_z() -> None:
    """Whatever the leak is: here something that has nothing random in it."""
    leak = pruned(quantized(embed(weights(), SUBKEYS, BOB), 6), 0.5)
    evidence = gather(leak, weights())
    grants = (number.to_bytes(16, "big") for number in range(400))
    z = np.array([evidence.z(SUBKEYS, grant) for grant in grants])
    assert abs(z.mean()) < 0.2  # four deviations of what is estimated from 400
    assert abs(z.std() - 1) < 0.15
    assert np.abs(z).max() < 4.5
    assert evidence.z(SUBKEYS, BOB) > 10  # the twin


def test_the_chance_of_a_false_alarm_counts_every_customer() -> None:
    assert false_alarm(6.0, 1) == pytest.approx(9.866e-10, rel=1e-3)
    assert false_alarm(6.0, 1000) == pytest.approx(9.866e-7, rel=1e-3)
    assert false_alarm(-3.0, 2) == 1.0
    assert 0 < false_alarm(1000.0, 1) < 1e-70


def test_everything_matched_is_matched_once() -> None:
    likenesses = np.random.default_rng(0).standard_normal((200, 200))
    assert sorted(pairs(likenesses)) == list(range(200))
    assert sorted(pairs(np.zeros((50, 50)))) == list(range(50))
    order = np.random.default_rng(1).permutation(200)
    assert (pairs(likenesses + 99 * np.eye(200)[order]) == order).all()


def test_no_customers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one customer"):
        trace(weights(), weights(), {}, SUBKEYS)
