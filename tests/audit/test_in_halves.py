"""A split model: attacks are given what its host has, and that is worth nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlguard.audit.findings import BUDGETS
from mlguard.audit.report import AuditReport
from mlguard.audit.report.page import render_page
from mlguard.audit.report.schema import dump_report, parse_report
from mlguard.audit.run import Adversary
from mlguard.audit.target import Subject, target_of_run
from mlguard.data import open_split
from mlguard.models import normalization_of
from mlguard.models.split import Sliced
from mlguard.protect import DataFolder, Job, Run
from mlguard.recipe import Audit as Settings
from tests.audits import PATIENT, audit_run
from tests.planted import Noise
from tests.runs import KEY
from tests.splits import public_weights, split_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("halves")
    recipe = split_recipe(public_weights(folder / "public"), "train.epochs=4")
    job = Job(folder / "run", recipe, DataFolder(None), device="cpu")
    return job.protect(KEY, key_name="acme")


@pytest.fixture(scope="module")
def audited(run: Run) -> AuditReport:
    test, own = (
        open_split(run.recipe.data, None, name, seed=0)
        for name in ("test", "validation")
    )
    settings = Settings(budget="quick", attacks=("retraining", "without-key"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", replace(PATIENT, steps=20))
        return audit_run(
            run,
            KEY,
            test,
            split="test",
            settings=settings,
            adversary=Adversary(own, "validation"),
        ).report


def test_a_host_has_the_backbone_and_not_one_private_weight(run: Run) -> None:
    opened = run.unlocked(KEY).load_model()
    assert isinstance(opened, Sliced)
    normalization = normalization_of(run.recipe.model)
    subject = Subject(opened, normalization, torch.device("cpu"))
    host = subject.of_host(seed=0).model.state_dict()
    for name, value in opened.state_dict().items():
        alike = torch.equal(value, host[name])
        if name.startswith("backbone."):
            assert alike, name
        elif value.ndim > 1:  # norms and biases begin alike in every model
            assert not alike, name


def test_attacks_give_no_more_than_their_control(audited: AuditReport) -> None:
    assert audited.attacks is not None
    tried = [one for one in audited.attacks.findings if one.attack == "retraining"]
    assert {one.variant for one in tried} >= {"everything", "head"}
    for one in tried:
        assert one.control is not None
        assert one.score < one.control + 0.1, one.variant


def test_the_report_says_whose_numbers_these_are(audited: AuditReport) -> None:
    codes = [flag.code for flag in audited.flags]
    assert "in-halves" in codes
    assert "from-memory" not in codes
    html = render_page(audited, proved=True)
    assert "only the files, no key: nothing to run" in html
    assert "These adversaries hold all that a host has" in html
    assert parse_report(dump_report(audited), name="audit.json") == audited


def test_whole_models_are_attacked_as_they_are(run: Run) -> None:
    subject = Subject(Noise(), normalization_of(run.recipe.model), torch.device("cpu"))
    assert subject.of_host(seed=0) is subject
    target = target_of_run(run, KEY, Settings(), torch.device("cpu"))
    assert target.subject.in_halves
    assert target.subject.sealed_files


def test_the_archive_of_a_run_is_all_that_a_client_has(
    run: Run, tmp_path: Path
) -> None:
    """Who takes the private half from a client's memory has the model."""
    first = run.unlocked(KEY).load_model()
    again = first.of_host(seed=1)
    again.private.load_state_dict(first.private.state_dict())
    shown = torch.rand(1, 3, 32, 32)
    assert torch.equal(first(shown), again.eval()(shown))
