"""From counts of attacks to findings, on numbers that can be worked out by hand."""

import numpy as np
import pytest

from mlguard.audit.findings.flags import flags_of
from mlguard.audit.findings.stolen_value import stolen_value
from tests.audits import TASK, attacks, control, findings, images, outcome


def value(attack: float, control: float, correct: float) -> float:
    return float(stolen_value(*map(np.asarray, (attack, control, correct))))


def test_stolen_value_is_0_at_the_control_and_1_at_the_correct_key() -> None:
    assert value(0.5, 0.5, 0.9) == 0.0
    assert value(0.9, 0.5, 0.9) == pytest.approx(1.0)
    assert value(0.7, 0.5, 0.9) == pytest.approx(0.5)


def test_an_attack_worse_than_its_control_stole_nothing() -> None:
    assert value(0.2, 0.5, 0.9) == 0.0


@pytest.mark.parametrize("control", [0.86, 0.9, 0.95])
def test_a_control_near_the_correct_key_leaves_nothing_to_steal(control) -> None:
    assert np.isnan(value(0.9, control, 0.9))


def test_without_labels_the_control_is_the_floor() -> None:
    found = attacks().findings[0]
    assert (found.labels, found.control) == (0, findings().floor)
    correct, floor = TASK.score_of(images(0.9)), findings().floor
    expected = (TASK.score_of(images(0.6)) - floor) / (correct - floor)
    assert found.stolen_value == pytest.approx(expected)


def test_with_labels_the_control_has_as_many() -> None:
    assert [one.control for one in attacks().findings[2:]] == [
        TASK.score_of(images(0.6)),
        TASK.score_of(images(0.7)),
    ]


def test_the_better_of_scratch_and_ancestor_is_the_control() -> None:
    controls = [control(4, 0.6, ancestor=images(0.7)), control(16, 0.7)]
    section = attacks(controls=controls)
    assert section.findings[2].control == TASK.score_of(images(0.7))
    assert section.controls[0].ancestor == section.controls[0].score


def test_the_worst_attack_is_the_headline() -> None:
    section = attacks()
    assert section.worst == 1
    assert section.stolen_value == pytest.approx(1.0)
    assert section.stolen_value_interval is not None
    assert section.stolen_value_interval.high == pytest.approx(1.0)


def test_without_any_value_there_is_no_headline() -> None:
    section = attacks(
        outcomes=[(outcome("retraining", "x", "T4", right=1.0, labels=4), 1.0)],
        controls=[control(4, 0.9)],
    )
    assert section.findings[0].stolen_value is None
    assert (section.worst, section.stolen_value) == (None, None)


def test_seconds_are_not_among_what_a_seed_repeats() -> None:
    slow = [(outcome("known-plaintext", "one pair", "T6", right=0.9), 99.0)]
    fast = [(slow[0][0], 1.0)]
    assert attacks(outcomes=slow) == attacks(outcomes=fast)


def codes(**changes: object) -> set[str]:
    own = {flag.code for flag in flags_of(findings())}
    return {flag.code for flag in flags_of(findings(), attacks(**changes))} - own


def test_sound_attacks_raise_no_flag() -> None:
    assert codes(controls=[control(4, 0.5), control(16, 0.5)]) == set()


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (
            "control-not-converged",
            {"controls": [control(4, 0.5), control(16, 0.5, converged=False)]},
        ),
        ("control-strong", {"controls": [control(4, 0.5), control(16, 0.8)]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_doubtful_control_is_flagged(code: str, changes: dict[str, object]) -> None:
    assert codes(**changes) == {code}


def test_an_attack_that_did_not_converge_is_flagged() -> None:
    rough = outcome("hill-climbing", "entropy", "T3", right=0.6, converged=False)
    assert codes(outcomes=[(rough, 1.0)], controls=[]) == {"attack-not-converged"}


def test_a_control_as_good_as_the_key_is_flagged_twice() -> None:
    changes = {"controls": [control(4, 0.5), control(16, 0.9)]}
    assert codes(**changes) == {"control-strong", "nothing-to-steal"}
