"""A sealed model: the correct key alone is measured, and everything says so."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mlguard.audit.attacks import ATTACKS
from mlguard.audit.attacks.campaign import none_run
from mlguard.audit.findings.attacks import AdversaryImages, AttackSection, Campaign
from mlguard.audit.findings.flags import flags_of
from mlguard.audit.findings.numbers import SEALED
from mlguard.audit.findings.stolen_value import find_attacks
from mlguard.audit.findings.verdicts import decide
from mlguard.audit.log import read_log
from mlguard.audit.report import conclude
from mlguard.audit.report.compare import Entry, compare, dump_comparison
from mlguard.audit.report.compare_words import comparison_table, render_comparison
from mlguard.audit.report.junit import junit_xml
from mlguard.audit.report.page import render_page
from mlguard.audit.report.schema import AuditReport, dump_report, parse_report
from mlguard.audit.report.terminal import report_table
from mlguard.audit.run import Adversary, Audit
from mlguard.audit.target import data_of, target_of_bundle
from mlguard.audit.target.black_box import Unlocked
from mlguard.bundle import TransformFacts
from mlguard.errors import ReportError
from mlguard.models import NO_KEY
from mlguard.recipe import Audit as Settings
from mlguard.runtime import Session
from mlguard.tasks import Segmentation
from tests.audit.test_page import Page
from tests.audits import LIMITS, Pairs, audit_target, measured, report
from tests.bundles import CLASSES, KEY, small_bundle

NOTHING = {"baseline": None, "no_key": None, "incorrect": [], "nearby": []}
CONDITIONS = ("no key", "incorrect keys", "nearby keys")


def no_attacks() -> AttackSection:
    source = AdversaryImages(split="validation", fingerprint="ab" * 32, images=64)
    names = [name for name in ATTACKS if name != "gradient"]
    campaign = Campaign("quick", [], [], none_run(names), source)
    return find_attacks(campaign, measured(**NOTHING), seed=0)


def sealed_report() -> AuditReport:
    written = report(**NOTHING)
    flags = flags_of(written.findings, no_attacks(), access="sealed")
    codes = [flag.code for flag in flags]
    return dataclasses.replace(
        written,
        subject=dataclasses.replace(written.subject, access="sealed"),
        flags=flags,
        attacks=no_attacks(),
        verdicts=decide(LIMITS, written.findings, no_attacks(), codes),
    )


def test_nothing_is_known_of_users_without_the_key() -> None:
    found = sealed_report().findings
    assert (found.no_key, found.incorrect, found.nearby) == (None, None, ())
    assert (found.leakage, found.leakage_interval) == (None, None)
    assert found.unauthorized_tries == 0
    assert [one.condition for one in found.not_run] == list(CONDITIONS)
    assert {one.message for one in found.not_run} == {SEALED}


def test_no_attack_is_run_and_each_says_why() -> None:
    reasons = {one.attack: one.reason for one in no_attacks().not_run}
    assert reasons.pop("gradient") == "not-asked"
    assert set(reasons) == set(ATTACKS) - {"gradient"}
    assert set(reasons.values()) == {"sealed"}


def test_every_form_of_the_report_says_it() -> None:
    written, terminal = sealed_report(), io.StringIO()
    Console(file=terminal, width=400).print(report_table(written, proved=True))
    for text in (
        render_page(written, proved=True),
        terminal.getvalue(),
        junit_xml(written, proved=True).decode(),
        dump_report(written).decode(),
    ):
        assert SEALED in text.replace("&#39;", "'")
        for condition in CONDITIONS:
            assert condition in text


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Audit, Path]:
    """A sealed bundle, audited with attacks."""
    bundle, images = small_bundle(sealed=True), noise(3, seed=0)
    spec = data_of(bundle.manifest, name="x")
    settings = Settings(budget="quick", max_leakage=0.5, batch=2)
    target = target_of_bundle(
        bundle, KEY, spec, settings, key_name="acme", device="cpu"
    )
    audited = audit_target(
        target,
        images,
        split="test",
        settings=settings,
        adversary=Adversary(noise(2, seed=1), "validation"),
        examples=1,
        log=tmp_path / "audit.jsonl",
    )
    return audited, tmp_path / "audit.jsonl"


def noise(number: int, *, seed: int) -> Pairs:
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (number, 3, 64, 64), dtype=np.uint8)
    masks = draw.integers(0, CLASSES, (number, 64, 64), dtype=np.uint8)
    return Pairs(
        torch.from_numpy(images),
        torch.from_numpy(masks),
        task=Segmentation(classes=CLASSES),
        fingerprint=f"{seed:064x}",
    )


def test_a_sealed_bundle_is_measured_under_its_key_alone(sealed) -> None:
    report, images = sealed[0].report, noise(3, seed=0)
    session = Session(small_bundle(), KEY)
    task = images.task
    right = task.count(session.predict(images.images.numpy()), images.masks.numpy())
    assert report.findings.correct.score == task.score_of(right)
    assert report.findings.no_key is None
    assert report.subject.access == "sealed"
    left_out = {one.attack: one.reason for one in report.attacks.not_run}
    assert left_out.pop("integer-seeds") == "not-asked"
    assert set(left_out.values()) == {"sealed"}
    answers = {one.claim: one.answer for one in report.verdicts}
    assert answers["random-keys"] == "INCONCLUSIVE"
    assert parse_report(dump_report(report), name="audit.json") == report


@pytest.mark.parametrize(("sealed", "bits"), [(True, 202.9), (False, 0.0)])
def test_what_weights_show_counts_only_where_nobody_reads_them(
    sealed: bool, bits: float
) -> None:
    shown = TransformFacts(methods=("shf",), block_size=4, shown_by_weights=True)
    bundle = small_bundle(sealed=sealed, transform=shown)
    target = target_of_bundle(
        bundle,
        KEY,
        data_of(bundle.manifest, name="x"),
        Settings(),
        key_name="acme",
        device="cpu",
    )
    assert round(target.key_space_bits, 1) == bits == bundle.manifest.key_space_bits
    assert target.shown_by_weights is not sealed


def test_the_log_of_a_sealed_bundle_gives_its_findings(sealed) -> None:
    audited, path = sealed
    assert conclude(read_log(path)).findings == audited.report.findings
    assert conclude(read_log(path)).attacks == audited.report.attacks


def test_its_pictures_are_the_key_holder_s_alone(sealed) -> None:
    (row,) = sealed[0].gallery.predictions
    assert [one.caption for one in row.pictures] == [
        "input",
        "ground truth",
        "correct key",
    ]


def test_no_other_condition_reaches_a_sealed_model() -> None:
    box = Unlocked.of(Session(small_bundle(sealed=True), KEY))
    with pytest.raises(ValueError, match="the model is sealed"):
        box.run(noise(1, seed=0).images, NO_KEY)
    with pytest.raises(ValueError, match="the model is sealed"):
        box.model(torch.zeros(1, 3, 4, 4))


def test_its_page_is_well_formed() -> None:
    page = Page(render_page(sealed_report(), proved=True))
    assert page.all("table")


def test_it_is_read_again_as_it_was_written() -> None:
    written = sealed_report()
    assert parse_report(dump_report(written), name="audit.json") == written


@pytest.mark.parametrize("access", ["weights", "black-box"])
def test_an_open_model_without_its_tries_is_refused(access: str) -> None:
    table = json.loads(dump_report(sealed_report()))
    table["subject"]["access"] = access
    with pytest.raises(ReportError, match="do not match a model whose access was"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_sealed_model_with_tries_is_refused() -> None:
    table = json.loads(dump_report(report()))
    table["subject"]["access"] = "sealed"
    with pytest.raises(ReportError, match="access was sealed"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_report_from_before_bundles_were_audited_is_still_read(
    tmp_path: Path,
) -> None:
    table = json.loads(dump_report(report()))
    del table["subject"]["access"]
    del table["findings"]["not_run"]
    assert parse_report(json.dumps(table).encode(), name="audit.json") == report()


def test_it_stands_beside_others_without_a_number_that_nobody_measured() -> None:
    other = dataclasses.replace(
        report(), subject=dataclasses.replace(report().subject, protection_id="01" * 16)
    )
    pair = [Entry(1, "sealed", sealed_report()), Entry(2, "open", other)]
    compared = compare(pair)
    (group,) = compared.groups
    assert "different-access" in {one.code for one in group.differences}
    numbers = json.loads(dump_comparison(compared))["groups"][0]["audits"][0]
    assert (numbers["no_key"], numbers["incorrect_maximum"]) == (None, None)
    assert "sealed without" in render_comparison(compared)
    Console(file=io.StringIO(), width=200).print(comparison_table(compared))
