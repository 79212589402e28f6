"""An audit that was stopped goes on to the findings of one that was not."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from mlguard.audit.attacks import base
from mlguard.audit.attacks.controls import Controls
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.log import AuditLog, read_log
from mlguard.audit.measure import counting as measuring
from mlguard.audit.report import conclude
from mlguard.audit.report.schema import dump_report
from mlguard.audit.run import Adversary, Audit
from mlguard.data import SHAPES_CLASS_NAMES, open_split
from mlguard.errors import ReportError
from mlguard.models import build_model
from mlguard.protect.run_folder import Run
from tests.audit.test_audit_run import secrets_of
from tests.audits import KEY, TINY, audit_run, make_run, recipe

pytestmark = pytest.mark.usefixtures("tiny_budget")
ATTACKS = ("hill-climbing", "known-plaintext", "retraining")
CLAIM = "audit.max_leakage=0.5"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("resume") / "run"
    return make_run(path, CLAIM, baseline=True)


def audit(run: Run, log: Path | None, *, split: str = "test", **changes) -> Audit:
    images = open_split(run.recipe.data, None, split, seed=0)
    adversary = Adversary(
        open_split(run.recipe.data, None, "validation", seed=0), "validation"
    )
    fields = {"budget": "quick", "attacks": ATTACKS} | changes
    settings = run.recipe.audit.model_copy(update=fields)
    return audit_run(
        run,
        KEY,
        images,
        split=split,
        settings=settings,
        adversary=adversary,
        examples=1,
        log=log,
        resume=True,
    )


def but_for_times(audited: Audit) -> dict:
    """audit.json without what says when, and how long."""
    table = json.loads(dump_report(audited.report))
    del table["created"]
    for finding in table["attacks"]["findings"]:
        del finding["seconds"]
    return table


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, bytes]:
    """An audit that nobody stopped, and its log."""
    log = tmp_path_factory.mktemp("whole") / "audit.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", TINY)
        audited = audit(run, log)
    return audited, log.read_bytes()


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def test_the_log_has_every_event_in_its_order(whole: tuple[Audit, bytes]) -> None:
    events = [json.loads(line)["event"] for line in lines_of(whole[1])]
    counted = ["counts"] * 4  # 6 images, 4 at a time, of two models
    attacked = ["outcome", "outcome", "attack", "outcome", "attack"]
    trained = ["outcome"] * 8 + ["attack"]  # four variants, with 1 and 2 labels
    rest = ["control", "control", "left-out", *["verdict"] * 4, "end"]
    assert events == ["start", *counted, *attacked, *trained, *rest]


def test_the_log_alone_gives_the_findings(
    whole: tuple[Audit, bytes], tmp_path: Path
) -> None:
    (tmp_path / "audit.jsonl").write_bytes(whole[1])
    log = read_log(tmp_path / "audit.jsonl")
    assert conclude(log).findings == whole[0].report.findings
    assert conclude(log).attacks == whole[0].report.attacks


def test_a_log_changes_no_finding(run: Run, whole: tuple[Audit, bytes]) -> None:
    assert but_for_times(audit(run, None)) == but_for_times(whole[0])


class Work:
    """Counts what is computed anew."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parts = self.scored = self.trained = 0
        evaluate, score, train = (
            measuring.evaluate,
            base.SplitReferee.__call__,
            Controls.at,
        )

        def counting(*args, **kwargs):
            self.parts += 1
            return evaluate(*args, **kwargs)

        def scoring(*args, **kwargs):
            self.scored += 1
            return score(*args, **kwargs)

        def training(*args, **kwargs):
            self.trained += 1
            return train(*args, **kwargs)

        patch.setattr(measuring, "evaluate", counting)
        patch.setattr(base.SplitReferee, "__call__", scoring)
        patch.setattr(Controls, "at", training)


# How many lines are there, and what is left to do: parts, scores, controls.
STOPS = [
    (0, (4, 13, 2)),
    (1, (4, 13, 2)),
    (3, (2, 13, 2)),
    (5, (0, 13, 2)),
    (6, (0, 12, 2)),
    (9, (0, 10, 2)),
    (12, (0, 8, 2)),
    (20, (0, 1, 1)),
    (21, (0, 0, 0)),
    (23, (0, 0, 0)),
]


@pytest.mark.parametrize(("kept", "left"), STOPS)
def test_wherever_it_is_stopped_it_goes_on_from_there(
    run: Run,
    whole: tuple[Audit, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
    left: tuple[int, int, int],
) -> None:
    log = tmp_path / "audit.jsonl"
    lines = lines_of(whole[1])
    log.write_bytes(b"".join(lines[:kept]) + b"".join(lines[kept:])[:50])
    work = Work(monkeypatch)
    resumed = audit(run, log)
    assert but_for_times(resumed) == but_for_times(whole[0])
    assert resumed.gallery == whole[0].gallery
    assert (work.parts, work.scored, work.trained) == left
    assert conclude(read_log(log)).findings == whole[0].report.findings


@pytest.mark.parametrize("events", [2, 7, 13])
def test_ctrl_c_keeps_what_was_measured(
    run: Run, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    log, add = tmp_path / "audit.jsonl", AuditLog.add

    def stop(self: AuditLog, *new: object) -> None:
        add(self, *new)
        if len(self.events) == events:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            audit(run, log)
    assert len(lines_of(log.read_bytes())) == events
    assert but_for_times(audit(run, log)) == but_for_times(whole[0])


def test_an_audit_can_be_stopped_more_than_once(
    run: Run, whole, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(whole[1])
    for kept in (2, 8, 15):
        log.write_bytes(b"".join(lines_of(log.read_bytes())[:kept]))
        resumed = audit(run, log)
    assert but_for_times(resumed) == but_for_times(whole[0])


def test_a_count_that_was_changed_is_not_believed(
    run: Run, whole, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    changed = whole[1].replace(b'"converged":false', b'"converged":true')
    assert changed != whole[1]
    log.write_bytes(changed)
    with pytest.raises(ReportError, match="is not what the holder of the key left"):
        audit(run, log)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, r"settings\.seed was 0 and is now 1"),
        ({"incorrect_keys": 4}, r"settings\.incorrect_keys was 3"),
        ({"budget": "none"}, r"settings\.budget was 'quick'"),
        ({"split": "train"}, r"material\.split was 'test'.*material\.fingerprint"),
    ],
    ids=["seed", "keys", "budget", "images"],
)
def test_another_audit_is_refused(
    run: Run, whole, tmp_path: Path, changes: dict, words: str
) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(whole[1])
    with pytest.raises(ReportError, match=words):
        audit(run, log, **changes)


def test_another_run_is_refused(run: Run, whole, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(whole[1])
    other = make_run(tmp_path / "run", CLAIM, "train.seed=5", baseline=True)
    with pytest.raises(ReportError, match=r"subject\.recipe_sha256 was"):
        audit(other, log)


def test_other_weights_that_training_started_from_are_refused(tmp_path: Path) -> None:
    """Controls and the public ancestor begin with them: results would mix."""
    public, log = tmp_path / "public.safetensors", tmp_path / "audit.jsonl"
    state = build_model(recipe().model, len(SHAPES_CLASS_NAMES)).state_dict()
    save_file(state, public)
    numbers = ("model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]")
    started = make_run(tmp_path / "run", f"model.weights={public}", *numbers)
    attacks = ("known-plaintext",)
    whole = audit(started, log, attacks=attacks)
    log.write_bytes(b"".join(lines_of(log.read_bytes())[:2]))
    save_file({name: value + 1 for name, value in state.items()}, public)
    with pytest.raises(ReportError, match=r"adversary\.weights was .* and is now"):
        audit(started, log, attacks=attacks)
    save_file(state, public)
    resumed = audit(started, log, attacks=attacks)
    assert but_for_times(resumed) == but_for_times(whole)


def test_no_secret_is_in_the_log(tmp_path: Path) -> None:
    secret = make_run(tmp_path / "run", 'transform.method=["np", "ffx"]')
    path = tmp_path / "audit.jsonl"
    audit(secret, path)
    content = path.read_bytes()
    log = read_log(path)
    counted = [log.counts("protected", first, n) for first, n in ((0, 4), (4, 2))]
    unpacked = b"".join(np.asarray(one).tobytes() for one in counted)
    for name, value in secrets_of(secret).items():
        assert value not in content, name
        assert value not in unpacked, name
    assert KEY.key_id.encode() in content
