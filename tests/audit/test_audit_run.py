"""The whole way: a run folder, a key and images in; a report without secrets out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mlguard.audit import read_report, report_folder, write_report
from mlguard.audit.report import gallery as gallery_module
from mlguard.audit.run import Audit
from mlguard.data import LabelledSet, open_split
from mlguard.errors import DatasetError, MalformedRun, RunError, WrongKey
from mlguard.keys import KEY_BYTES, ModelSubkeys
from mlguard.pictures import demonstration, image_png
from mlguard.protect.device import pick_device
from mlguard.protect.run_folder import Run, read_run
from mlguard.tasks import Segmentation
from mlguard.transforms import derive_transform
from tests.audits import (
    KEY,
    OTHER_KEY,
    PROTECTION_ID,
    SECRET,
    Pairs,
    audit_run,
    make_run,
)

METHODS = ("np", "ffx")  # a mask twice, and a table


def images_of(run: Run) -> LabelledSet:
    return open_split(run.recipe.data, None, "test", seed=0)


def audit(run: Run, **changes: object) -> Audit:
    fields = {"split": "test", "settings": run.recipe.audit, "examples": 2}
    return audit_run(run, KEY, images_of(run), **(fields | changes))


@pytest.fixture(scope="module")
def audited(run: Run) -> Audit:
    return audit(run)


def test_every_condition_is_measured(audited: Audit) -> None:
    found = audited.report.findings
    assert found.images == 6
    assert found.baseline is not None
    assert len(found.incorrect.scores) == 3
    assert [(point.share, len(point.scores)) for point in found.nearby] == [
        (0.25, 2),
        (0.5, 2),
    ]
    assert found.key_space_bits == pytest.approx(202.9, abs=0.1)


def test_the_same_seed_gives_the_same_findings(run: Run, audited: Audit) -> None:
    assert audit(run).report.findings == audited.report.findings


def test_another_seed_redraws_images_and_changes_no_score(
    run: Run, audited: Audit
) -> None:
    settings = run.recipe.audit.model_copy(update={"seed": 1})
    other, first = (
        audit(run, settings=settings).report.findings,
        audited.report.findings,
    )
    assert other.incorrect.scores == first.incorrect.scores
    assert other.incorrect.mean_interval != first.incorrect.mean_interval
    assert other.correct.score == first.correct.score


def test_the_report_says_how_it_came_about(audited: Audit) -> None:
    report = audited.report
    assert report.subject.key_id == KEY.key_id
    assert report.subject.protection_id == PROTECTION_ID.hex()
    assert report.material.fingerprint != "0" * 64
    assert {"mlguard", "torch", "numpy"} <= set(report.versions)
    assert report.command == (
        "mlguard audit RUN --key acme --split test --incorrect-keys 3 --seed 0 "
        "--out REPORT"
    )


def test_images_the_model_was_trained_on_are_flagged(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    fingerprint = images_of(run).fingerprint
    data = run.provenance["data"] | {"train_fingerprint": fingerprint}
    trained = dataclasses.replace(run, provenance=run.provenance | {"data": data})
    flags = {flag.code for flag in audit(trained).report.flags}
    assert "training-images" in flags
    assert "training-images" not in {flag.code for flag in audit(run).report.flags}


def test_what_the_weights_show_is_flagged_and_not_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tied = dataclasses.replace(run, provenance=run.provenance | {"bound": {"tied": 1}})
    plain, shown = audit(run).report, audit(tied).report
    assert plain.findings.key_space_bits == pytest.approx(202.9, abs=0.1)
    assert shown.findings.key_space_bits == 0.0
    new = {flag.code for flag in shown.flags} - {flag.code for flag in plain.flags}
    assert new == {"key-shown-by-weights", "key-space-small"}


def test_another_key_is_refused_by_both_ids(run: Run) -> None:
    with pytest.raises(WrongKey, match=f"{KEY.key_id}.*{OTHER_KEY.key_id}"):
        audit_run(
            run, OTHER_KEY, images_of(run), split="test", settings=run.recipe.audit
        )


def test_a_baseline_run_is_refused(run: Run) -> None:
    twin = run.baseline()
    assert twin is not None
    with pytest.raises(MalformedRun, match="is a baseline run and needs no key"):
        audit(twin)


def test_images_with_other_classes_are_refused(run: Run) -> None:
    first = images_of(run)[0]
    other = Pairs(first[0][None], first[1][None], task=Segmentation(classes=3))
    with pytest.raises(
        DatasetError, match="model has 6 classes, but the images have 3"
    ):
        audit_run(run, KEY, other, split="test", settings=run.recipe.audit)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(RunError, match="expected auto, cpu, cuda, got 'tpu'"):
        pick_device("tpu")


def test_without_examples_no_image_is_in_the_report(run: Run, audited: Audit) -> None:
    assert audit(run, examples=0).gallery == gallery_module.Gallery()
    assert len(audited.gallery.predictions) == 2


def test_no_picture_is_made_with_the_model_s_own_subkeys(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the plain image it would give the key away."""
    used = subkeys_that_pictures_use(monkeypatch)
    audit(run)
    assert used
    assert PROTECTION_ID not in {subkeys.protection_id for subkeys in used}
    assert KEY.key_id not in {subkeys.key_id for subkeys in used}


def test_the_test_above_would_notice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    used = subkeys_that_pictures_use(monkeypatch)
    own = KEY.for_model(PROTECTION_ID)
    monkeypatch.setattr(gallery_module, "demonstration_subkeys", lambda: own)
    audit(run)
    assert PROTECTION_ID in {subkeys.protection_id for subkeys in used}


def subkeys_that_pictures_use(monkeypatch: pytest.MonkeyPatch) -> list[ModelSubkeys]:
    used: list[ModelSubkeys] = []

    def derive(methods: tuple[str, ...], subkeys: ModelSubkeys, size: int) -> object:
        used.append(subkeys)
        return derive_transform(methods, subkeys, size)

    monkeypatch.setattr(demonstration, "derive_transform", derive)
    return used


def test_no_picture_shows_an_image_as_the_model_gets_it(
    run: Run, audited: Audit
) -> None:
    """The same by looking: no picture is the transform of any test image."""
    transform = run.transform(KEY).image
    shown = {
        picture.png
        for row in (*audited.gallery.transformed, *audited.gallery.predictions)
        for picture in row.pictures
    }
    images = [images_of(run)[index][0].numpy() for index in range(6)]
    plain = {image_png(image) for image in images}
    keyed = [transform.apply(image[None])[0] for image in images]
    secret = {image_png(np.rint(image * 255).astype(np.uint8)) for image in keyed}
    assert plain & shown, "or the pictures are not found by this comparison at all"
    assert not secret & shown


@pytest.fixture(scope="module")
def secret_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("secrets") / "run"
    return make_run(folder, 'transform.method=["np", "ffx"]')


def secrets_of(run: Run) -> dict[str, bytes]:
    """The key, its subkeys, and its masks and tables, in the forms they can take."""
    subkeys = KEY.for_model(PROTECTION_ID)
    size = run.recipe.transform.block_size
    found = {"key": KEY.reveal()}
    for use in (f"np/m={size}/c=3", f"ffx-mask/m={size}/c=3", "ffx-password"):
        found[use] = subkeys.derive(use)
    for name, tensor in run.transform(KEY).slots().items():
        flat = np.asarray(tensor).reshape(-1)
        found[name] = flat.tobytes()
        listed = ", ".join(str(int(value)) for value in flat)
        found[f"{name} as text"] = listed.encode()
        found[f"{name} as dense text"] = listed.replace(" ", "").encode()
    for name in list(found):
        found[f"{name} in hex"] = found[name].hex().encode()
    return found


def test_no_file_of_a_report_holds_a_secret(secret_run: Run, tmp_path: Path) -> None:
    found = audit(secret_run)
    with report_folder(tmp_path / "report") as folder:
        write_report(folder, found.report, found.gallery, secret=SECRET)
    content = [path.read_bytes() for path in (tmp_path / "report").iterdir()]
    assert len(content) == 4
    secrets = secrets_of(secret_run)
    assert len(secrets["key"]) == KEY_BYTES
    for name, secret in secrets.items():
        assert not any(secret in data for data in content), name
    assert any(KEY.key_id.encode() in data for data in content)
    assert read_report(tmp_path / "report/audit.json") == found.report


def test_a_run_of_version_0_1_has_a_flag_that_passes_nothing() -> None:
    run = read_run(Path(__file__).parents[1] / "golden/v0.1/run_shf")
    found = audit(run).report
    assert "old-proof" in {flag.code for flag in found.flags}
    doubted = {one.claim for one in found.verdicts if "old-proof" in one.reasons}
    assert not doubted & {"key-bits"}
    assert all(
        one.answer != "PASS" for one in found.verdicts if one.claim != "key-bits"
    )


def test_a_run_of_this_version_has_no_such_flag(audited: Audit) -> None:
    assert "old-proof" not in {flag.code for flag in audited.report.flags}
