"""A bundle audited as a black box: the run's own numbers, and what is left out."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mlguard import recipe
from mlguard.audit import read_report, render_page, report_table, write_report
from mlguard.audit.attacks import Leaks, Pool, Scene
from mlguard.audit.attacks.base import SplitReferee
from mlguard.audit.attacks.integer_seeds import IntegerSeeds, published_transforms
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.log import read_log
from mlguard.audit.report import conclude
from mlguard.audit.report.junit import junit_xml
from mlguard.audit.report.schema import dump_report
from mlguard.audit.run import Adversary, Audit
from mlguard.audit.target import check_data, data_of, target_of_bundle
from mlguard.audit.target.black_box import BlackBox
from mlguard.bundle import Bundle, read_bundle
from mlguard.data import LabelledSet, open_split
from mlguard.errors import DatasetError, ReportError, TamperedBundle, WrongKey
from mlguard.models import NO_KEY, Condition, keyed, logits_of, output_of
from mlguard.protect import Run
from mlguard.protect.export import export_run
from mlguard.recipe import Data
from mlguard.rules import ANCESTOR_ATTACKS
from mlguard.tasks import Segmentation
from tests.audits import (
    KEY,
    OTHER_KEY,
    SECRET,
    TINY,
    Pairs,
    audit_run,
    audit_target,
    make_run,
    run_all,
)
from tests.bundles import keyed_bundle, small_bundle

LAYERS = "transform.layers=['stages.0.branch.2', 'stages.2.branch.2']"
METHODS = {
    "shf": (),
    "channels": (
        'transform.method=["shf", "channels"]',
        LAYERS,
        "transform.signs=true",
    ),
}
FED = recipe.Transform(method="channels", layers=("fed",), signs=True)
WEIGHTS = {
    "gradient",
    "weights-only",
    "retraining",
    "patient-retraining",
    *ANCESTOR_ATTACKS,
}
pytestmark = pytest.mark.usefixtures("tiny_budget")
ROUNDING = 0.002  # of a score: few pixels are so near to a tie


@pytest.fixture(scope="module", params=METHODS)
def both(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[Run, Bundle]:
    """A run folder and its bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    run = make_run(folder / "run", *METHODS[request.param])
    export_run(run, KEY, folder / "acme.mlgb", sealed=False)
    return run, read_bundle(folder / "acme.mlgb")


@pytest.fixture(scope="module")
def bundle(both: tuple[Run, Bundle]) -> Bundle:
    return both[1]


def images_of(run: Run, split: str = "test") -> LabelledSet:
    return open_split(run.recipe.data, None, split, seed=run.recipe.train.seed)


def audit(both: tuple[Run, Bundle], *, key=KEY, log: Path | None = None, **changes):
    run, bundle = both
    settings = run.recipe.audit.model_copy(update=changes)
    target = target_of_bundle(
        bundle, key, run.recipe.data, settings, key_name="acme", device="cpu"
    )
    return audit_target(
        target,
        images_of(run),
        split="test",
        settings=settings,
        adversary=Adversary(images_of(run, "validation"), "validation"),
        examples=1,
        log=log,
        resume=True,
    )


@pytest.fixture(scope="module")
def attacked(both, tmp_path_factory) -> tuple[Audit, Path]:
    """An audit with attacks and claims, and its log."""
    log = tmp_path_factory.mktemp("log") / "audit.jsonl"
    claims = {"max_leakage": 1.0, "max_retraining": 0.5, "max_key_search": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", TINY)
        return audit(both, log=log, budget="quick", **claims), log


def but_for_times(audited: Audit) -> dict:
    table = json.loads(dump_report(audited.report))
    del table["created"]
    for finding in table["attacks"]["findings"]:
        del finding["seconds"]
    return table


def test_every_score_is_the_run_s_own_but_for_rounding(both, attacked) -> None:
    run, _ = both
    own = audit_run(
        run, KEY, images_of(run), split="test", settings=run.recipe.audit, examples=0
    ).report.findings
    found = attacked[0].report.findings
    assert found.correct.score == pytest.approx(own.correct.score, abs=ROUNDING)
    assert found.no_key.score == pytest.approx(own.no_key.score, abs=ROUNDING)
    assert found.incorrect.scores == pytest.approx(own.incorrect.scores, abs=ROUNDING)
    for point, same in zip(found.nearby, own.nearby, strict=True):
        assert point.scores == pytest.approx(same.scores, abs=ROUNDING)
    assert len({found.correct.score, found.no_key.score, *found.incorrect.scores}) > 2


def test_there_is_no_twin_and_the_report_says_so(attacked) -> None:
    report = attacked[0].report
    assert report.findings.baseline is None
    assert report.findings.reference == "correct"
    assert {"no-baseline", "black-box"} <= {flag.code for flag in report.flags}


def test_the_subject_is_the_manifest_s(both, attacked) -> None:
    run, bundle = both
    subject = attacked[0].report.subject
    assert subject.access == "black-box"
    assert subject.key_id == KEY.key_id
    assert subject.protection_id == bundle.manifest.protection_id
    assert subject.methods == run.recipe.transform.methods
    assert subject.layers == run.recipe.transform.layers
    assert subject.training_seed == run.recipe.train.seed
    assert attacked[0].report.command.startswith("mlguard audit BUNDLE --key acme ")


def test_what_needs_weights_is_not_run_and_says_why(attacked) -> None:
    attacks = attacked[0].report.attacks
    reasons = {
        one.attack: one.message
        for one in attacks.not_run
        if one.reason == "needs-weights"
    }
    assert set(reasons) >= WEIGHTS | {"hill-climbing", "controls"}
    assert "a bundle is run as a black box" in reasons["retraining"]
    assert "batch-norm needs the weights" in reasons["hill-climbing"]
    assert not {one.attack for one in attacks.findings} & WEIGHTS


def test_attacks_that_only_predict_are_run(attacked) -> None:
    found = {(f.attack, f.variant) for f in attacked[0].report.attacks.findings}
    assert found >= {
        ("without-key", "gain-matched"),
        ("hill-climbing", "entropy"),
        ("hill-climbing", "cross-entropy"),
        ("known-plaintext", "one pair"),
    }


def test_known_plaintext_finds_the_key_of_a_bundle_too(both, attacked) -> None:
    if "channels" in both[0].recipe.transform.methods:
        pytest.skip("a pair of images tells nothing of a feature map")
    report = attacked[0].report
    (pair,) = (f for f in report.attacks.findings if f.attack == "known-plaintext")
    assert pair.score == report.findings.correct.score


def test_where_there_is_no_control_the_floor_stands_in(attacked) -> None:
    report = attacked[0].report
    labelled = [f for f in report.attacks.findings if f.labels]
    assert labelled
    assert {f.control for f in labelled} == {report.findings.floor}
    assert report.attacks.controls == ()


def test_a_claim_that_needs_weights_is_not_decided(attacked) -> None:
    verdicts = {one.claim: one for one in attacked[0].report.verdicts}
    assert verdicts["retraining"].answer == "INCONCLUSIVE"
    assert verdicts["retraining"].reasons == ("not-measured",)
    assert verdicts["key-search"].answer == "INCONCLUSIVE"
    assert "not-measured" in verdicts["key-search"].reasons


def test_all_of_it_is_in_the_page_the_terminal_and_junit(attacked, tmp_path) -> None:
    audited = attacked[0]
    why = "it needs the weights, but a bundle is run as a black box"
    assert why in render_page(audited.report, audited.gallery, proved=True)
    terminal = io.StringIO()
    Console(file=terminal, width=400).print(report_table(audited.report, proved=True))
    assert why in terminal.getvalue()
    assert why in junit_xml(audited.report, proved=True).decode()
    write_report(tmp_path, audited.report, audited.gallery, secret=SECRET)
    assert read_report(tmp_path / "audit.json") == audited.report


def test_the_log_alone_gives_the_findings(attacked) -> None:
    log = read_log(attacked[1])
    assert conclude(log).findings == attacked[0].report.findings
    assert conclude(log).attacks == attacked[0].report.attacks


@pytest.mark.parametrize("kept", [2, 5])
def test_an_audit_that_was_stopped_goes_on_to_the_same_findings(
    both, attacked, tmp_path: Path, kept: int
) -> None:
    whole, content = attacked[0], attacked[1].read_bytes()
    log = tmp_path / "audit.jsonl"
    log.write_bytes(b"".join(content.splitlines(keepends=True)[:kept]))
    claims = {"max_leakage": 1.0, "max_retraining": 0.5, "max_key_search": 1.0}
    resumed = audit(both, log=log, budget="quick", **claims)
    assert but_for_times(resumed) == but_for_times(whole)
    assert resumed.gallery == whole.gallery


def test_another_audit_does_not_go_on_with_it(both, attacked, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(attacked[1].read_bytes())
    with pytest.raises(ReportError, match=r"settings\.seed was 0 and is now 1"):
        audit(both, log=log, seed=1)


def test_a_run_s_audit_does_not_go_on_with_a_bundle_s(
    both, attacked, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(attacked[1].read_bytes())
    run, _ = both
    with pytest.raises(ReportError, match=r"subject\.access was 'black-box'"):
        audit_run(
            run,
            KEY,
            images_of(run),
            split="test",
            settings=run.recipe.audit,
            log=log,
            resume=True,
        )


def test_a_wrong_key_is_refused(both) -> None:
    with pytest.raises(WrongKey, match="was made for key"):
        audit(both, key=OTHER_KEY)


def test_a_bundle_that_its_owner_did_not_write_is_refused(both) -> None:
    run, bundle = both
    changed = bundle.manifest.model_copy(update={"licence": "mine"})
    with pytest.raises(TamperedBundle, match="was changed"):
        audit((run, dataclasses.replace(bundle, manifest=changed)))


def test_the_key_of_images_runs_through_the_bundle_s_own_graph(bundle: Bundle) -> None:
    """The slots are filled: what the torch back-end would do is not looked at."""
    box = BlackBox.of(bundle, provider="cpu")
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)

    def never(_: object) -> torch.Tensor:
        raise AssertionError

    subkeys = KEY.for_model(bytes.fromhex(bundle.manifest.protection_id))
    derived = bundle.manifest.keyed.derive(subkeys)
    condition = Condition(never, transforms=derived)
    assert box.run(images, condition).shape[0] == 1


def test_without_a_key_the_slots_hold_the_identity(both) -> None:
    run, bundle = both
    box = BlackBox.of(bundle, provider="cpu")
    images, _ = images_of(run)[0]
    found = box.run(images[None], NO_KEY)
    model = run.load_model()
    with torch.inference_mode():
        expected = logits_of(output_of(model, images[None], NO_KEY, box.normalization))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_learned_for_a_feature_map_has_no_place_in_a_graph(bundle) -> None:
    box = BlackBox.of(bundle, provider="cpu")
    learned = Condition(features={"stages.0.branch.2": torch.relu})
    with pytest.raises(ValueError, match="only takes permutations of feature maps"):
        box.run(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), learned)


def test_seeds_of_a_permuted_layer_are_tried_on_a_bundle_too() -> None:
    """By the model's answers alone; what fits the seed's order is found."""
    box = BlackBox.of(keyed_bundle(), provider="cpu")
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 16, 16), generator=draw, dtype=torch.uint8)
    order = published_transforms(FED, 3, channels={"fed": 3})
    condition = keyed(order)
    masks = box.run(images, condition).argmax(1).to(torch.uint8)
    pairs, task = Pairs(images, masks, task=Segmentation(4)), Segmentation(4)
    scene = Scene(
        stolen=box,
        spec=FED,
        model=None,
        task=task,
        pool=Pool(images, masks, 255),
        leaks=Leaks(order),
        access="black-box",
        referee=SplitReferee(box, pairs, 2),
    )
    outcomes = list(run_all(IntegerSeeds(seed=0, images=4, seeds=20), scene))
    found = {one.variant: task.score_of(one.counts) for one in outcomes}
    assert set(found) == {"entropy", "cross-entropy"}
    assert found["cross-entropy"] == 1.0


def data(**changes: object) -> Data:
    fields = {
        "kind": "folder",
        "class_names": tuple(f"class {number}" for number in range(4)),
        "size": (64, 64),
    }
    return Data.model_validate(fields | changes)


def test_a_manifest_says_which_images_it_is_for() -> None:
    manifest = small_bundle().manifest
    assert data_of(manifest, name="x.mlgb") == data()
    check_data(manifest, data(), name="x.mlgb")


def test_a_manifest_that_no_data_set_fits_is_refused() -> None:
    manifest = small_bundle(image_size=(1 << 16, 64)).manifest
    with pytest.raises(DatasetError, match=r"no data set fits its manifest: size\.0"):
        data_of(manifest, name="x.mlgb")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"size": (64, 32)},
            "at 64 x 64 pixels, but the data would be read at 64 x 32",
        ),
        ({"ignore_index": 7}, "ignores 255 in masks, but the data 7"),
        ({"class_names": ("a", "b")}, "it has 4, the data 2"),
        (
            {"class_names": ("class 0", "class 1", "cat", "class 3")},
            "class 2 is 'class 2', in the data 'cat'",
        ),
        (
            {"kind": "imagefolder", "class_names": ("a", "b")},
            "is for segmentation, but the data is labelled for classification",
        ),
    ],
    ids=["size", "ignore_index", "classes", "names", "task"],
)
def test_images_that_a_bundle_is_not_for_are_refused(changes, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        check_data(small_bundle().manifest, data(**changes), name="x.mlgb")
