"""Claims are decided from numbers and flags; what nobody claimed is not decided."""

import dataclasses

import pytest

from mlguard import recipe
from mlguard.audit.findings.numbers import Interval
from mlguard.audit.findings.verdicts import (
    DEFAULTS,
    Limit,
    Verdict,
    decide,
    exit_code,
    limits_of,
)
from tests.audits import VERDICTS, attacks, findings, outcome

NO_ATTACK = attacks(outcomes=[])


def answers(*flags: str, found=None, section=None, **limits: float) -> dict[str, tuple]:
    section = attacks() if section is None else section
    decided = decide(claimed(**limits), found or findings(), section, flags)
    return {one.claim: (one.answer, one.reasons) for one in decided}


def claimed(**limits: float) -> tuple[Limit, ...]:
    """The claims that a recipe makes, without those that every audit makes."""
    every = limits_of(recipe.Audit(**limits))
    return tuple(limit for limit in every if limit.source == "recipe")


def test_every_audit_makes_four_claims_and_says_so() -> None:
    made = limits_of(recipe.Audit())
    assert {one.claim: one.threshold for one in made} == DEFAULTS
    assert {one.source for one in made} == {"default"}
    assert len(DEFAULTS) == 4


def test_an_option_outranks_the_recipe_and_the_recipe_the_default() -> None:
    settings = recipe.Audit(min_fidelity=0.5, max_retraining=0.3)
    made = limits_of(settings, {"fidelity": 0.7, "key-search": 0.1})
    said = {one.claim: (one.threshold, one.source) for one in made}
    assert said == {
        "fidelity": (0.7, "option"),
        "random-keys": (DEFAULTS["random-keys"], "default"),
        "key-bits": (DEFAULTS["key-bits"], "default"),
        "stolen-value": (DEFAULTS["stolen-value"], "default"),
        "key-search": (0.1, "option"),
        "retraining": (0.3, "recipe"),
    }


def test_a_key_that_can_be_tried_out_fails_without_any_recipe_saying_so() -> None:
    """924 keys, found by trying them all, stolen value 1: not an empty list and 0."""
    found = dataclasses.replace(findings(), key_space_bits=9.9)
    tried = outcome("exhaustive", "entropy", "T3", right=0.9)
    section = attacks(outcomes=[(tried, 1.0)])
    decided = decide(limits_of(recipe.Audit()), found, section, ())
    answered = {one.claim: one.answer for one in decided}
    assert (answered["key-bits"], answered["stolen-value"]) == ("FAIL", "FAIL")
    assert exit_code([one for one in decided if one.answer != "INCONCLUSIVE"]) == 30


def test_what_needs_the_key_s_own_work_is_no_part_of_the_default_claim() -> None:
    pair = outcome("known-plaintext", "one pair", "T6", right=0.9)
    weak = outcome("hill-climbing", "entropy", "T3", right=0.3)
    section = attacks(outcomes=[(pair, 0.1), (weak, 0.1)], not_run=[])
    decided = decide(limits_of(recipe.Audit()), findings(), section, ())
    (verdict,) = [one for one in decided if one.claim == "stolen-value"]
    assert verdict.measured == section.findings[1].stolen_value


@pytest.mark.parametrize(
    ("claim", "limit", "passing", "failing"),
    [
        ("fidelity", "min_fidelity", 0.7, 0.95),
        ("random-keys", "max_leakage", 0.9, 0.1),
        ("key-search", "max_key_search", 0.9, 0.1),
        ("retraining", "max_retraining", 0.9, 0.1),
        ("known-plaintext", "max_known_plaintext", 1.0, 0.1),
    ],
)
def test_a_number_passes_or_fails_its_threshold(
    claim: str, limit: str, passing: float, failing: float
) -> None:
    assert answers(**{limit: passing}) == {claim: ("PASS", ())}
    assert answers(**{limit: failing}) == {claim: ("FAIL", ())}


@pytest.mark.parametrize(
    "flag", ["few-images", "training-images", "reference-near-floor"]
)
def test_a_doubt_turns_a_pass_into_inconclusive_and_leaves_a_fail(flag: str) -> None:
    assert answers(flag, max_leakage=0.9) == {"random-keys": ("INCONCLUSIVE", (flag,))}
    assert answers(flag, max_leakage=0.1) == {"random-keys": ("FAIL", ())}


def test_a_doubt_about_one_claim_leaves_the_others() -> None:
    limits = {"max_leakage": 0.9, "max_retraining": 0.9}
    assert answers("control-strong", **limits) == {
        "random-keys": ("PASS", ()),
        "retraining": ("INCONCLUSIVE", ("control-strong",)),
    }


def test_another_attack_that_did_not_converge_is_no_doubt() -> None:
    found = attacks().findings
    rough = (dataclasses.replace(found[0], converged=False), *found[1:])
    section = dataclasses.replace(attacks(), findings=rough)
    limits = {"max_key_search": 0.9, "max_retraining": 0.9}
    assert answers("attack-not-converged", section=section, **limits) == {
        "key-search": ("INCONCLUSIVE", ("attack-not-converged",)),
        "retraining": ("PASS", ()),
    }


def test_an_interval_that_crosses_the_threshold_is_inconclusive() -> None:
    wide = Interval(low=0.1, high=0.95)
    found = dataclasses.replace(findings(), leakage=0.5, leakage_interval=wide)
    assert answers(found=found, max_leakage=0.9) == {
        "random-keys": ("INCONCLUSIVE", ("interval-crosses-threshold",))
    }


def test_what_was_not_measured_is_inconclusive() -> None:
    unmeasured = ("INCONCLUSIVE", ("not-measured",))
    limits = {"max_key_search": 0.9, "max_retraining": 0.9}
    assert answers(section=NO_ATTACK, **limits) == {
        "key-search": unmeasured,
        "retraining": unmeasured,
    }
    decided = decide(claimed(**limits), findings(baseline=None), None, ())
    assert {one.answer for one in decided} == {"INCONCLUSIVE"}


def test_a_search_that_was_not_asked_for_leaves_its_claim_open() -> None:
    section = dataclasses.replace(
        attacks(),
        not_run=(dataclasses.replace(attacks().not_run[0], reason="not-asked"),),
    )
    assert answers(section=section, max_key_search=0.9) == {
        "key-search": ("INCONCLUSIVE", ("not-measured",))
    }


def test_what_was_not_asked_for_cannot_save_a_claim_that_failed() -> None:
    left_out = dataclasses.replace(
        attacks().not_run[0], attack="gradient", reason="not-asked"
    )
    section = dataclasses.replace(attacks(), not_run=(left_out,))
    assert answers(section=section, max_key_search=0.1)["key-search"] == ("FAIL", ())


def test_a_search_that_no_key_of_ours_needs_leaves_its_claim_alone() -> None:
    left_out = dataclasses.replace(
        attacks().not_run[0], attack="integer-seeds", reason="not-asked"
    )
    section = dataclasses.replace(attacks(), not_run=(left_out,))
    assert answers(section=section, max_key_search=0.9) == answers(
        section=dataclasses.replace(attacks(), not_run=()), max_key_search=0.9
    )


def test_a_search_that_needs_weights_fails_a_claim_but_cannot_keep_it() -> None:
    """What was found counts; what somebody with the weights finds is not known."""
    left_out = dataclasses.replace(
        attacks().not_run[0], attack="gradient", reason="needs-weights"
    )
    section = dataclasses.replace(attacks(), not_run=(left_out,))
    assert answers(section=section, max_key_search=0.1)["key-search"] == ("FAIL", ())
    assert answers(section=section, max_key_search=0.9) == {
        "key-search": ("INCONCLUSIVE", ("not-measured",))
    }


def test_a_claim_about_a_sealed_model_is_not_measured() -> None:
    unmeasured = ("INCONCLUSIVE", ("not-measured",))
    found = findings(no_key=None, incorrect=[], nearby=[])
    assert answers(found=found, section=NO_ATTACK, max_leakage=0.9) == {
        "random-keys": unmeasured
    }
    assert answers(found=found, min_fidelity=0.7) == {"fidelity": ("PASS", ())}


def test_a_model_below_its_baseline_is_a_doubt_unless_the_owner_meant_it() -> None:
    flag = "correct-below-baseline"
    assert answers(flag, max_leakage=0.9)["random-keys"][0] == "INCONCLUSIVE"
    meant = answers(flag, min_fidelity=0.7, max_leakage=0.9)
    assert meant == {"fidelity": ("PASS", ()), "random-keys": ("PASS", ())}


@pytest.mark.parametrize(
    ("chosen", "status"),
    [((), 0), ((0,), 0), ((0, 1), 30), ((0, 1, 2), 31), ((2,), 31)],
)
def test_the_exit_code_is_that_of_the_gravest_answer(chosen, status: int) -> None:
    verdicts: list[Verdict] = [VERDICTS[index] for index in chosen]
    assert exit_code(verdicts) == status


def test_tries_without_a_key_count_as_leakage_where_they_are_larger() -> None:
    tries = [
        (outcome("without-key", "gain-matched", "T0", right=0.8), 0.1),
        (outcome("without-key", "another method", "T1", right=0.3), 0.1),
    ]
    section = attacks(outcomes=tries)
    found = findings()
    between = (found.leakage + section.findings[0].leakage) / 2
    limits = claimed(max_leakage=between)
    (plain,) = decide(limits, found, None, [])
    (verdict,) = decide(limits, found, section, [])
    assert plain.measured == found.leakage
    assert verdict.measured == section.findings[0].leakage
    assert plain.measured < verdict.measured
    assert verdict.answer == "FAIL"
    assert verdict.interval is not None
    assert verdict.interval.low <= verdict.measured <= verdict.interval.high
