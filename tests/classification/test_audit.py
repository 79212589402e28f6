"""An audit of a classifier: accuracy in every number, word and picture."""

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mlguard.audit import read_report, render_page, report_table, write_report
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.report.schema import dump_report, parse_report
from mlguard.audit.run import Adversary, Audit
from mlguard.data import open_split
from mlguard.errors import DatasetError
from mlguard.protect import Run
from mlguard.recipe import BY_DEFAULT
from tests.audits import SECRET, TINY, audit_run
from tests.classification.conftest import KEY
from tests.images import CLASSES

SEGMENTED = re.compile(r"IoU|mask\b|masks\b|pixels? accuracy|labelled pixels", re.I)
FEWER = dataclasses.replace(TINY, starts=1, labelled=(2,))


def audit(run: Run, pictures: Path, split: str = "test", **changes: object) -> Audit:
    def images(of: str):
        return open_split(run.recipe.data, pictures, of, seed=run.recipe.train.seed)

    settings = run.recipe.audit.model_copy(update=changes)
    adversary = Adversary(images("validation"), "validation")
    return audit_run(
        run,
        KEY,
        images(split),
        split=split,
        settings=settings,
        adversary=adversary,
    )


@pytest.fixture(scope="module")
def audited(run: Run, pictures: Path) -> Audit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", FEWER)
        return audit(run, pictures, budget="quick", max_leakage=0.5)


def test_scores_are_accuracies(audited: Audit) -> None:
    found = audited.report.findings
    assert found.task == "classification"
    assert found.correct.score == found.correct.accuracy > 0.9
    assert found.class_names == CLASSES
    assert found.class_counts == (11, 11, 11)
    assert found.floor == pytest.approx(1 / 3)
    assert found.baseline is not None
    shares = [share * 33 for share in (found.no_key.score, *found.incorrect.scores)]
    assert shares == [pytest.approx(round(share)) for share in shares]


def test_a_class_s_score_is_its_share_of_right_images(audited: Audit) -> None:
    found = audited.report.findings.correct
    assert sum(found.class_scores) / 3 == pytest.approx(found.score)


def test_every_attack_runs_on_a_classifier(audited: Audit) -> None:
    section = audited.report.attacks
    ran = {finding.attack for finding in section.findings}
    left_out = {one.attack for one in section.not_run if one.reason == "impossible"}
    assert ran | left_out >= set(BY_DEFAULT)
    assert ran >= {"hill-climbing", "known-plaintext", "retraining"}
    pair = next(f for f in section.findings if f.attack == "known-plaintext")
    assert pair.score == audited.report.findings.correct.score
    assert [control.images for control in section.controls] == [2]


def test_the_file_is_read_back_equal(audited: Audit) -> None:
    written = audited.report
    assert parse_report(dump_report(written), name="audit.json") == written


def test_the_page_speaks_of_accuracy_alone(audited: Audit) -> None:
    html = render_page(audited.report, audited.gallery, proved=True)
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S)
    assert SEGMENTED.findall(text) == []
    assert "Accuracy over 3 classes and 33 images" in text
    assert "input: blue" in text
    assert "the five most probable classes" in text
    assert "of images" in text


def test_a_segmentation_s_words_would_be_found() -> None:
    from tests.audits import attacked_report

    text = render_page(attacked_report(), proved=True)
    assert len(SEGMENTED.findall(text)) > 5


def test_the_terminal_speaks_of_accuracy_alone(audited: Audit) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(report_table(audited.report, proved=True))
    said = console.export_text()
    assert SEGMENTED.findall(said) == []
    assert "accuracy" in said


def test_pictures_show_each_user_s_answer(audited: Audit) -> None:
    rows = audited.gallery.predictions
    assert len(rows) == 4
    first = rows[0].pictures
    names = [picture.caption.partition(":")[0] for picture in first]
    assert names == [
        "input",
        "baseline",
        "correct key",
        "no key",
        "best of 3 incorrect keys",
    ]
    assert all(picture.png.startswith(b"\x89PNG") for picture in first)
    correct = first[2].caption
    assert re.match(r"correct key: (blue|green|red) \d+", correct)


def test_the_report_is_written_and_made_again(audited: Audit, tmp_path: Path) -> None:
    write_report(tmp_path, audited.report, audited.gallery, secret=SECRET)
    assert read_report(tmp_path / "audit.json") == audited.report


def test_the_same_seed_gives_the_same_findings(run: Run, pictures: Path) -> None:
    one, other = (audit(run, pictures).report.findings for _ in range(2))
    assert one == other


def test_images_of_the_other_task_are_refused(run: Run, pictures: Path) -> None:
    from mlguard.recipe import read_recipe

    shapes = read_recipe("demo", overrides=["data.shapes_images=[8, 4, 4]"])
    images = open_split(shapes.data, None, "test", seed=0)
    with pytest.raises(
        DatasetError, match="trained for classification, but the images"
    ):
        audit_run(run, KEY, images, split="test", settings=run.recipe.audit)


def test_training_images_are_flagged_in_the_task_s_words(
    run: Run, pictures: Path
) -> None:
    found = audit(run, pictures, split="train").report
    flag = next(flag for flag in found.flags if flag.code == "training-images")
    assert flag.message.endswith("accuracy on others is lower")


def test_a_class_without_images_is_named(audited: Audit) -> None:
    findings = audited.report.findings
    rest = dataclasses.replace(findings, class_counts=(11, 22, 0))
    assert rest.absent_classes == ("red",)
    html = render_page(dataclasses.replace(audited.report, findings=rest), proved=True)
    assert "in no image: not measured" in html


def test_a_thousand_classes_are_a_page(audited: Audit) -> None:
    findings = audited.report.findings

    def many(score):
        return dataclasses.replace(score, class_scores=(0.5,) * 1000)

    incorrect = dataclasses.replace(findings.incorrect, mean_class_scores=(0.5,) * 1000)
    large = dataclasses.replace(
        findings,
        class_names=tuple(f"class {number}" for number in range(1000)),
        class_counts=(1,) * 1000,
        baseline=many(findings.baseline),
        correct=many(findings.correct),
        no_key=many(findings.no_key),
        incorrect=incorrect,
    )
    report = dataclasses.replace(audited.report, findings=large)
    read = parse_report(dump_report(report), name="audit.json")
    assert "class 999" in render_page(read, proved=True)
