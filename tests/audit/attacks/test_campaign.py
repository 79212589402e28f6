"""An audit with attacks, the whole way: what is run, repeated, refused and written."""

import dataclasses
from pathlib import Path

import pytest

from mlguard import recipe
from mlguard.audit import report_folder, write_report
from mlguard.audit.attacks import ATTACKS
from mlguard.audit.attacks.campaign import check_names, run_attacks
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.log import AuditLog
from mlguard.audit.run import Adversary, Audit
from mlguard.data import open_split
from mlguard.errors import DatasetError, RunError
from mlguard.protect.run_folder import Run
from mlguard.rules import ALL_ATTACKS, ANCESTOR_ATTACKS
from mlguard.tasks import Segmentation
from tests.audit.test_audit_run import secrets_of
from tests.audits import KEY, SECRET, TINY, audit_run, make_run, started
from tests.planted import Noise, np_transform, scene_of

pytestmark = pytest.mark.usefixtures("tiny_budget")


def audit(run: Run, adversary: str | None = "validation", **changes: object) -> Audit:
    test = open_split(run.recipe.data, None, "test", seed=0)
    other = None
    if adversary is not None:
        images = open_split(run.recipe.data, None, adversary, seed=0)
        other = Adversary(images, adversary)
    settings = run.recipe.audit.model_copy(update={"budget": "quick", **changes})
    return audit_run(
        run, KEY, test, split="test", settings=settings, adversary=other, examples=0
    )


@pytest.fixture(scope="module")
def audited(run: Run) -> Audit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", TINY)
        return audit(run)


def test_every_attack_is_run_or_has_a_reason(audited: Audit) -> None:
    section = audited.report.attacks
    assert section is not None
    ran = {finding.attack for finding in section.findings}
    left_out = {one.attack: one.reason for one in section.not_run}
    without = ["exhaustive", "known-initialization", "weights-only", *ANCESTOR_ATTACKS]
    without.append("patient-retraining")  # a tiny budget has no time
    assert left_out == {
        "integer-seeds": "not-asked",  # by default: no key of ours is one
        **dict.fromkeys(without, "impossible"),
    }
    assert ran | set(left_out) == set(ATTACKS)
    assert not ran & set(left_out)
    assert (section.split, section.pool_images) == ("validation", 4)
    assert [control.images for control in section.controls] == [1, 2]
    assert "--seed 0 --budget quick --out REPORT" in audited.report.command


def test_the_same_seed_gives_the_same_findings(run: Run, audited: Audit) -> None:
    assert audit(run).report.attacks == audited.report.attacks


def test_another_seed_attacks_otherwise(run: Run, audited: Audit) -> None:
    assert audit(run, seed=1).report.attacks != audited.report.attacks


def test_attacks_leave_the_rest_of_the_audit_as_it_is(run: Run, audited: Audit) -> None:
    assert audit(run, budget="none").report.findings == audited.report.findings


def test_only_what_was_asked_for_is_run(run: Run) -> None:
    report = audit(run, attacks=("known-plaintext",)).report
    assert report.attacks is not None
    assert {finding.attack for finding in report.attacks.findings} == {
        "known-plaintext"
    }
    assert {one.reason for one in report.attacks.not_run} == {"not-asked"}
    assert report.attacks.controls == ()
    assert "--budget quick --attacks known-plaintext" in report.command


def test_one_pair_gives_exactly_what_the_correct_key_gives(audited: Audit) -> None:
    section = audited.report.attacks
    assert section is not None
    (pair,) = [one for one in section.findings if one.attack == "known-plaintext"]
    assert pair.score == audited.report.findings.correct.score


def test_a_threshold_makes_a_claim(run: Run) -> None:
    report = audit(run, attacks=("known-plaintext",), max_known_plaintext=0.1).report
    own = [one.claim for one in report.verdicts if one.source == "recipe"]
    assert own == ["known-plaintext"]


def test_without_images_of_its_own_there_is_no_adversary(run: Run) -> None:
    with pytest.raises(DatasetError, match="the adversary's own images"):
        audit(run, None)


def test_an_adversary_with_the_audited_images_is_refused(run: Run) -> None:
    with pytest.raises(DatasetError, match="are the audited ones"):
        audit(run, "test")


def test_an_adversary_with_other_classes_is_refused(run: Run) -> None:
    images = open_split(run.recipe.data, None, "validation", seed=0)
    images.task = Segmentation(classes=3)
    test = open_split(run.recipe.data, None, "test", seed=0)
    settings = run.recipe.audit.model_copy(update={"budget": "quick"})
    with pytest.raises(DatasetError, match="the model has 6 classes"):
        audit_run(
            run,
            KEY,
            test,
            split="test",
            settings=settings,
            adversary=Adversary(images, "validation"),
        )


@pytest.mark.parametrize("weights", ["none", "ResNet50_Weights.IMAGENET1K_V1"])
def test_a_control_without_its_ancestor_is_said(weights: str) -> None:
    mask = np_transform()
    scene = dataclasses.replace(
        scene_of(Noise(), mask, "np"),
        model=recipe.Model(name="fcn_small", weights=weights),
    )
    settings = recipe.Audit(budget="quick", attacks=("retraining",))
    log = AuditLog(started(scene.task, 8, settings=settings))
    run_attacks(scene, log)
    said = [one.attack for one in log.left_out if one.reason == "impossible"]
    assert said == ([] if weights == "none" else ["ancestor-control"])


def test_unknown_attacks_are_refused_by_name() -> None:
    with pytest.raises(
        RunError, match=r"expected some of without-key, exhaustive, .* got 'magic'"
    ):
        check_names(["retraining", "magic"])
    with pytest.raises(RunError, match="got none"):
        check_names([])


def test_the_recipe_names_the_attacks_of_the_registry() -> None:
    assert tuple(ATTACKS) == ALL_ATTACKS
    assert all(kind.name == name for name, kind in ATTACKS.items())


@pytest.mark.parametrize("kind", ATTACKS.values(), ids=lambda kind: kind.name)
def test_every_attack_states_its_five_headings(kind) -> None:
    headings = ("Adversary:", "Budget:", "Success:", "Limits:", "Source:")
    places = [kind.__doc__.index(f"    {heading}") for heading in headings]
    assert places == sorted(places)
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("method", ["shf", "np", "ffx"])
def test_what_an_attack_found_of_the_key_is_in_no_file(
    method: str, tmp_path: Path
) -> None:
    """A pair gives the whole transform away; the report must not pass it on."""
    attacked = make_run(tmp_path / "run", f'transform.method="{method}"')
    found = audit(attacked)
    section = found.report.attacks
    assert section is not None
    (pair,) = [one for one in section.findings if one.attack == "known-plaintext"]
    assert pair.converged, "or there would be nothing to find in the files"
    with report_folder(tmp_path / "report") as folder:
        write_report(folder, found.report, found.gallery, secret=SECRET)
    content = [path.read_bytes() for path in (tmp_path / "report").iterdir()]
    for name, secret in secrets_of(attacked).items():
        assert not any(secret in data for data in content), name
