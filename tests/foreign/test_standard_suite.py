"""The ONNX standard's own test suite: every case answers as plain onnxruntime does.

Each is tried as it is, and with every input but the first turned into an initializer,
so that there are weights. `docs/results/any_model.md` has the counts.
"""

from collections import Counter
from collections.abc import Iterable

import pytest
from onnx import ModelProto

from mlguard.bundle import FileOwner, bundle2_bytes, bundle2_of
from mlguard.engine import ORT_ERRORS
from mlguard.errors import ModelFileError
from mlguard.foreign import About, lift_model, model_of
from mlguard.foreign.compare import run, same
from mlguard.foreign.sessions import load
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from tests.foreign.standard import Case, cases, with_inputs_held

KEY = ModelKey(bytes(range(32)))
SUBKEYS = KEY.for_model(bytes(16))
EQUAL, NOT_RUN, REFUSED = "equal", "onnxruntime does not run it", "refused"
FAST = 15  # every so many cases are in the fast subset


def outcome(case: Case) -> tuple[str, int]:
    """What becomes of a case in a bundle, and how many tensors its graph lost."""
    data = case.model.SerializeToString()
    try:
        expected = run(load(data), case.feeds)
    except ORT_ERRORS:
        return NOT_RUN, 0
    try:
        lifted = lift_model(
            ModelProto.FromString(data),
            name=case.name,
            freeze_inputs=True,
            smallest=True,
        )
        model = model_of(lifted, About(), name=case.name)
    except ModelFileError as refusal:
        return f"{REFUSED}: {refusal}", 0
    bundle = bundle2_bytes(model, FileOwner.of(SUBKEYS), name=case.name)
    session = Session(bundle2_of(bundle, name=case.name), KEY)
    got = list(session.run(case.feeds).values())
    return EQUAL if same(expected, got) else "different", len(lifted.tensors)


def count(some: Iterable[Case]) -> tuple[Counter[str], int]:
    found: Counter[str] = Counter()
    moved = 0
    for case in some:
        what, tensors = outcome(case)
        if what not in (EQUAL, NOT_RUN):
            what = f"{case.name} {what}"
        found[what] += 1
        moved += tensors
    return found, moved


def held(some: Iterable[Case]) -> Iterable[Case]:
    return [made for case in some if (made := with_inputs_held(case)) is not None]


@pytest.fixture(scope="module")
def everything() -> list[Case]:
    return list({(case.kind, case.name): case for case in cases()}.values())


def test_a_part_of_the_suite_answers_alike(everything: list[Case]) -> None:
    some = everything[::FAST]
    for part, least in ((some, 10), (held(some), 50)):
        found, moved = count(part)
        assert set(found) <= {EQUAL, NOT_RUN}
        assert found[EQUAL] > found[NOT_RUN]
        assert moved > least


@pytest.mark.slow
def test_the_whole_suite_answers_alike(everything: list[Case]) -> None:
    for part in (everything, held(everything)):
        found, _ = count(part)
        assert set(found) <= {EQUAL, NOT_RUN}
        assert found[EQUAL] > 1000


def test_another_weight_would_be_seen(everything: list[Case]) -> None:
    """Without this, the counts above would prove nothing."""
    (case,) = (case for case in everything if case.name == "test_add")
    made = with_inputs_held(case)
    assert made is not None
    assert outcome(made) == (EQUAL, 1)
    other = ModelProto()
    other.CopyFrom(made.model)
    other.graph.initializer[0].raw_data = bytes(
        len(made.model.graph.initializer[0].raw_data)
    )
    before = run(load(made.model.SerializeToString()), made.feeds)
    assert not same(before, run(load(other.SerializeToString()), made.feeds))
