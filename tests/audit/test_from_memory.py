"""A model whose every weight is sealed: who has the files, and who has the memory."""

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from mlguard import recipe
from mlguard.audit.attacks import ATTACKS, Scene
from mlguard.audit.findings import limits_of
from mlguard.audit.findings.flags import flags_of
from mlguard.audit.findings.verdicts import decide
from mlguard.audit.report.cells import rows
from mlguard.audit.report.junit import junit_xml
from mlguard.audit.report.page import render_page
from mlguard.audit.report.schema import AuditReport, dump_report, parse_report
from mlguard.audit.report.terminal import report_table
from mlguard.audit.report.words import number, subject_line
from mlguard.audit.run import Adversary
from mlguard.audit.target import AuditTransforms
from mlguard.data import open_split
from mlguard.errors import ReportError
from mlguard.keys import ModelSubkeys
from mlguard.models import NO_KEY
from mlguard.protect import read_run
from mlguard.recipe import Audit as Settings
from mlguard.transforms import TransformSet
from tests.audits import KEY, PATIENT, PROTECTION_ID, audit_run, images, report, run_all
from tests.planted import Noise, np_transform, scene_of
from tests.protect.test_bind import bound, plain_run
from tests.runs import KEY as BIND_KEY

OPENED = {"no_key": images(0.9), "incorrect": [], "nearby": []}  # as the correct key
NEED_NO_KEY = {"without-key", "retraining", "patient-retraining"}
ALONE = recipe.Transform.model_construct(
    method=(), block_size=1, layers=(), signs=False
)


def of_memory() -> AuditReport:
    """The audit of a model under `weights` alone."""
    written = report(**OPENED)
    subject = dataclasses.replace(written.subject, sealed_files=True)
    flags = flags_of(written.findings, sealed_files=True)
    codes = [flag.code for flag in flags]
    verdicts = decide(
        limits_of(recipe.Audit()), written.findings, None, codes, sealed_files=True
    )
    return dataclasses.replace(written, subject=subject, flags=flags, verdicts=verdicts)


def test_both_thieves_stand_in_one_table() -> None:
    said = {name: cells for name, *cells in rows(of_memory().findings)}
    both = {
        name: cells for name, *cells in rows(of_memory().findings, sealed_files=True)
    }
    of_files = both.pop("only the files, no key: nothing to run")
    assert of_files[:2] == said["floor (constant answer)"][:2], "a constant answer"
    assert both.pop("memory, no key") == said.pop("no key")
    assert both == said
    assert said["correct key"][0] == number(of_memory().findings.no_key.score)


def test_every_form_says_whose_numbers_these_are() -> None:
    html = render_page(of_memory(), proved=True)
    assert "took the opened model from memory" in html
    assert "only the files, no key: nothing to run" in html
    assert "A thief with only the files cannot run the model" in html
    assert "Without the key, the opened model reaches" in html
    assert "took the opened model" not in render_page(report(), proved=True)


def test_it_is_read_back_equal() -> None:
    written = of_memory()
    assert parse_report(dump_report(written), name="audit.json") == written


def test_an_opened_model_leaks_all_of_it() -> None:
    found = of_memory().findings
    assert found.leakage == pytest.approx(
        (found.correct.score - found.floor) / (found.baseline.score - found.floor)
    )
    opened = decide(limits_of(recipe.Audit()), found, None, ())
    answers = {one.claim: one.answer for one in opened}
    assert answers["random-keys"] == "FAIL"


def test_the_claims_are_about_the_files_and_memory_is_told_beside_them() -> None:
    written, out = of_memory(), io.StringIO()
    answers = {one.claim: (one.answer, one.measured) for one in written.verdicts}
    assert answers["random-keys"] == answers["stolen-value"] == ("PASS", 0.0)
    assert answers["key-bits"] == ("PASS", 256.0)
    Console(file=out, width=400).print(report_table(written, proved=True))
    memory = f"from memory {written.findings.leakage:.3f}, not claimed"
    for said in (out.getvalue(), junit_xml(written, proved=True).decode()):
        assert f"0.000 from the files alone; {memory}" in said


def test_a_pass_that_only_the_files_earn_is_refused_of_an_open_model() -> None:
    """Whoever edits `sealed_files` away must say what memory gives: FAIL."""
    written = of_memory()
    subject = dataclasses.replace(written.subject, sealed_files=False)
    flags = flags_of(written.findings)
    forged = dataclasses.replace(written, subject=subject, flags=flags)
    with pytest.raises(ReportError, match="the verdict on random-keys is PASS"):
        parse_report(dump_report(forged), name="audit.json")


def test_only_a_run_can_have_no_incorrect_keys_and_yet_no_key() -> None:
    written = of_memory()
    subject = dataclasses.replace(written.subject, access="black-box")
    content = dump_report(dataclasses.replace(written, subject=subject))
    with pytest.raises(ReportError, match="do not match a model whose access"):
        parse_report(content, name="audit.json")


def test_where_the_key_does_nothing_no_other_one_is_tried() -> None:
    def derive(subkeys: ModelSubkeys) -> TransformSet:
        return TransformSet()

    subkeys, settings = KEY.for_model(PROTECTION_ID), recipe.Audit()
    tried = AuditTransforms.derive(derive(subkeys), derive, subkeys, settings)
    assert (tried.incorrect, tried.nearby, tried.same_transform) == ([], [], 0)


def scene() -> Scene:
    return dataclasses.replace(scene_of(Noise(), np_transform(), "np"), spec=ALONE)


def test_whoever_has_the_memory_runs_the_model_and_that_is_an_attack() -> None:
    attack = ATTACKS["without-key"].within(PATIENT, seed=0)
    (outcome,) = run_all(attack, scene())
    assert (outcome.variant, outcome.rung) == ("the opened model", "T2")
    expected = scene().referee(scene().stolen.model, NO_KEY)
    assert (outcome.counts == expected).all()


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - NEED_NO_KEY))
def test_every_other_attack_on_a_key_says_that_there_is_nothing_to_find(
    name: str,
) -> None:
    model = recipe.Model(name="fcn_small")
    made = dataclasses.replace(scene(), model=model, build=Noise)
    assert ATTACKS[name].within(PATIENT, seed=0).impossible(made)


def test_retraining_needs_no_key_and_says_what_it_leaves_out() -> None:
    attack = ATTACKS["retraining"].within(PATIENT, seed=0)
    assert not attack.impossible(scene())
    assert "the key does nothing" in " ".join(attack.left_out(scene()))
    assert {one.variant for one in run_all(attack, scene())} >= {"everything"}


def test_a_line_says_what_is_sealed_and_no_block_size() -> None:
    written = of_memory()
    subject = dataclasses.replace(written.subject, methods=("weights",), block_size=1)
    changed = dataclasses.replace(written, subject=subject)
    assert subject_line(changed) == "fcn_small, weights"


def test_weights_that_were_left_open_are_whoever_s_has_the_files(
    tmp_path: Path,
) -> None:
    report = audited(tmp_path, "weights", keep_plain=True)
    assert not report.subject.sealed_files
    answers = {one.claim: one.answer for one in report.verdicts}
    assert answers["random-keys"] != "PASS"


def audited(folder: Path, *methods: str, keep_plain: bool = False) -> AuditReport:
    """The audit of a small run that was bound under some methods."""
    plain = plain_run(folder / "plain", "data.shapes_images=[8, 4, 6]")
    bound(plain, folder / "run", methods=methods, keep_plain=keep_plain)
    run = read_run(folder / "run")
    settings = Settings(
        incorrect_keys=2, nearby=(0.5,), nearby_keys=1, batch=4, budget="quick"
    ).model_copy(update={"attacks": ("without-key",)})
    test, own = (
        open_split(run.recipe.data, None, split, seed=0)
        for split in ("test", "validation")
    )
    return audit_run(
        run,
        BIND_KEY,
        test,
        split="test",
        settings=settings,
        adversary=Adversary(own, "validation"),
        examples=1,
    ).report


def test_a_run_under_weights_is_the_plain_model_in_memory(tmp_path: Path) -> None:
    report = audited(tmp_path, "weights")
    found = report.findings
    assert report.subject.sealed_files
    assert {one.claim: one.answer for one in report.verdicts}["stolen-value"] == "PASS"
    assert found.no_key.score == found.correct.score == found.baseline.score
    assert (found.incorrect, found.nearby) == (None, ())
    (attack,) = report.attacks.findings
    assert (attack.variant, attack.score) == ("the opened model", found.correct.score)
    assert "from-memory" in {flag.code for flag in report.flags}
    assert parse_report(dump_report(report), name="audit.json") == report


def test_with_an_image_method_it_is_what_that_method_left(tmp_path: Path) -> None:
    report = audited(tmp_path, "orthogonal", "weights")
    assert report.subject.sealed_files
    assert len(report.findings.incorrect.scores) == 2
    assert report.findings.no_key is not None
    assert subject_line(report).endswith("orthogonal + weights with M = 4")
