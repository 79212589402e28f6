"""audit.jsonl: what is written is read back, and every other line is refused."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlguard.audit.findings import AdversaryImages, NearbyPoint
from mlguard.audit.findings.audited import Machine
from mlguard.audit.log import AuditLog, open_log, read_log
from mlguard.audit.log.events import (
    Attacked,
    AttackEnded,
    Controlled,
    Counted,
    Decided,
    Ended,
    LeftOut,
    Started,
    pack,
    unpack,
)
from mlguard.audit.report import conclude, report_of
from mlguard.errors import OutputError, OutputExists, ReportError
from mlguard.tasks import Classification
from tests.audits import (
    NAMES,
    VERDICTS,
    attacked_report,
    campaign,
    control,
    measured,
    outcome,
    recipe,
    report,
)
from tests.audits import started as made_start

SECRET = bytes(range(32))


def started(**changes: object) -> Started:
    fields = {
        "created": "2026-01-02T03:04:05Z",
        "baseline_sha256": "cd" * 32,
        "class_names": NAMES,
        "incorrect": 2,
        "nearby": (NearbyPoint(share=0.5, changed=0.5, number=2),),
        "settings": recipe("audit.incorrect_keys=2", 'audit.budget="quick"').audit,
        "adversary": AdversaryImages(
            split="validation", fingerprint="ab" * 32, images=64
        ),
    }
    return made_start(**(fields | changes))


def stack() -> np.ndarray:
    """Every condition of `measured`, in the order of the spec."""
    found = measured()
    nearby = [counts for point in found.nearby for counts in point.counts]
    return np.stack([found.no_key, found.correct, *found.incorrect, *nearby])


def whole_audit() -> list:
    """The events of the audit whose report is `attacked_report`."""
    counts, twin = stack(), measured().baseline
    found = campaign()
    return [
        Counted(of="baseline", first=0, images=4, counts=pack(twin[None])),
        Counted(of="protected", first=0, images=3, counts=pack(counts[:, :3])),
        Counted(of="protected", first=3, images=1, counts=pack(counts[:, 3:])),
        *(Attacked.of(one, seconds) for one, seconds in found.outcomes),
        AttackEnded(attack="retraining"),
        *(Controlled.of(one) for one in found.controls),
        LeftOut(not_run=tuple(found.not_run)),
        *(Decided(verdict=verdict) for verdict in VERDICTS),
        Ended(created="2026-01-02T03:04:06Z", exit_code=31),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    with open_log(path, SECRET, started(), resume=False) as log:
        for event in whole_audit():
            log.add(event)
    return path


def test_every_line_is_one_json_object_with_its_event(path: Path) -> None:
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events[:4] == ["start", "counts", "counts", "counts"]
    assert set(events) == {
        *("start", "counts", "outcome", "attack", "control"),
        *("left-out", "verdict", "end"),
    }


def test_findings_are_computed_again_from_the_events_alone(path: Path) -> None:
    log = read_log(path)
    assert conclude(log).findings == report().findings
    assert conclude(log).attacks == attacked_report().attacks


def test_images_that_were_not_counted_are_missed(path: Path) -> None:
    log = read_log(path)
    del log.events[3]
    with pytest.raises(ReportError, match="image 3 was not counted"):
        conclude(log)


def test_a_log_without_an_end_has_no_section_of_attacks(path: Path) -> None:
    log = read_log(path)
    log.events = [one for one in log.events if not isinstance(one, LeftOut)]
    with pytest.raises(ReportError, match="did not finish"):
        conclude(log)


def test_a_log_without_an_end_has_no_report(path: Path) -> None:
    log = read_log(path)
    del log.events[-1]
    with pytest.raises(ReportError, match="is not finished"):
        report_of(log)


def test_the_log_alone_gives_the_report(path: Path) -> None:
    found, same = report_of(read_log(path)), attacked_report()
    assert (found.findings, found.attacks) == (same.findings, same.attacks)
    assert (found.flags, found.verdicts) == (same.flags, same.verdicts)


def test_a_log_is_read_with_the_key_of_its_owner_alone(path: Path) -> None:
    assert read_log(path, SECRET).events == read_log(path).events
    with pytest.raises(ReportError, match="line 1 is not what the holder of the key"):
        read_log(path, bytes(32))


def test_only_its_owner_reads_a_log(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


def test_what_was_known_is_known_again(path: Path) -> None:
    with open_log(path, SECRET, started(), resume=True) as log:
        assert (log.counts("protected", 3, 1) == stack()[:, 3:]).all()
        assert log.counts("protected", 2, 1) is None
        assert [seconds for _, seconds in log.outcomes("retraining")] == [2.0, 2.0]
        assert log.attack_ended("retraining")
        assert not log.attack_ended("hill-climbing")
        assert sorted(log.controls()) == [4, 16]
        assert log.ended


def test_an_outcome_and_a_control_are_read_back_equal() -> None:
    one = outcome("retraining", "everything", "T4", right=0.8, labels=4, notes=("a",))
    again = Attacked.of(one, 1.0).outcome(started())
    assert dataclasses.replace(again, counts=None) == dataclasses.replace(
        one, counts=None
    )
    assert (again.counts == one.counts).all()
    found = control(4, 0.6, ancestor=one.counts)
    ancestor = Controlled.of(found).control(started()).ancestor
    assert ancestor is not None
    assert (ancestor == one.counts).all()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrays(np.int64, (2, 3, 2), elements=st.integers(0, 2**31 - 1)))
def test_packed_counts_are_unpacked_equal(counts: np.ndarray) -> None:
    assert (unpack(pack(counts), counts.shape) == counts).all()


def test_a_classification_counts_two_numbers_an_image() -> None:
    asked = made_start(Classification(3))
    counts = np.array([[0, 1], [2, 2], [1, 1], [0, 0]])
    assert (asked.split(pack(counts)) == counts).all()
    with pytest.raises(ReportError, match=r"outside 0 … 2"):
        asked.split(pack(counts + 1))


@pytest.mark.parametrize("value", [-1, 2**31])
def test_a_count_that_does_not_fit_is_not_packed(value: int) -> None:
    with pytest.raises(ValueError, match="outside 0"):
        pack(np.array([value]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AAAA", "damaged"),
        ("A", "damaged"),
        (pack(np.zeros(5, np.int64)), "not of shape"),
        (pack(np.zeros(7, np.int64)), "not of shape"),
        (pack(np.zeros(1 << 20, np.int64)), "not of shape"),
        (pack(np.zeros(6, np.int64))[:-8], "damaged|not of shape"),
    ],
    ids=["noise", "no base64", "short", "long", "a bomb", "cut off"],
)
def test_other_counts_are_refused(text: str, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        unpack(text, (2, 3))


def test_more_counts_than_memory_holds_are_refused_before_any_work() -> None:
    with pytest.raises(ReportError, match="at most"):
        unpack("", (1 << 20, 255, 3))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def resumed(path: Path, **changes: object) -> AuditLog:
    with open_log(path, SECRET, started(**changes), resume=True) as log:
        return log


@pytest.mark.parametrize("kept", [0, 1, 3, 7])
@pytest.mark.parametrize("half", [0, 1, 40, -1])
def test_a_line_that_was_being_written_is_dropped(
    path: Path, kept: int, half: int
) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:kept]) + lines[kept][:half])
    log = resumed(path)
    assert len(log.events) == max(1, kept) + bool(kept)  # a start, or a resume
    assert len(read_log(path).events) == len(log.events)
    assert resumed(path).events[0] == started(), "what was added is in the chain"


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def without_one(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def with_a_number_changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b'"queries":100', b'"queries":101')]


def twice(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], lines[4]]


def unauthenticated(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1][:-75] + b"}\n"]


def of_another_kind(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b'"outcome"', b'"surprise"')]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (swapped, "line 2 is not what the holder"),
        (without_one, "line 3 is not what the holder"),
        (with_a_number_changed, "line 5 is not what the holder"),
        (twice, "line 6 is not what the holder"),
        (unauthenticated, "does not end with its authentication"),
        (of_another_kind, "surprise"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_log_that_was_changed_is_refused(path: Path, edit, words: str) -> None:
    changed = b"".join(edit(lines_of(path)))
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(ReportError, match=words):
        resumed(path)
    assert path.read_bytes() == changed, "it is left as it is"


def test_the_log_of_another_key_is_refused(path: Path) -> None:
    with (
        pytest.raises(ReportError, match="line 1 is not what the holder of the key"),
        open_log(path, bytes(32), started(), resume=True),
    ):
        pass


OTHERS = {
    "settings.seed": {
        "settings": recipe("audit.incorrect_keys=2").audit.model_copy(
            update={"seed": 1}
        )
    },
    "settings.incorrect_keys": {"settings": recipe().audit},
    "model_sha256": {"model_sha256": "ef" * 32},
    "baseline_sha256": {"baseline_sha256": None},
    "material.fingerprint": {
        "material": dataclasses.replace(report().material, fingerprint="11" * 32)
    },
    "subject.protection_id": {
        "subject": dataclasses.replace(report().subject, protection_id="11" * 16)
    },
    "adversary": {"adversary": None},
    "versions.mlguard": {"versions": {"mlguard": "0.0.9"}},
    "machine.threads": {
        "machine": Machine(
            system="Linux", processor="a CPU", cores=2, threads=2, device="cpu"
        )
    },
}


@pytest.mark.parametrize("place", OTHERS)
def test_the_log_of_another_audit_is_refused_by_what_differs(
    path: Path, place: str
) -> None:
    with pytest.raises(
        ReportError, match=f"belongs to another audit: {place} was"
    ) as refusal:
        resumed(path, **OTHERS[place])
    assert "resume the audit with its own settings" in refusal.value.hint


def test_only_the_time_may_differ(path: Path) -> None:
    assert resumed(path, created="2027-01-02T03:04:05Z").ended


def test_a_log_is_never_overwritten(path: Path) -> None:
    with (
        pytest.raises(OutputExists, match="already exists"),
        open_log(path, SECRET, started(), resume=False),
    ):
        pass


def test_to_resume_what_was_not_begun_begins_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    resumed(path)
    assert [event.event for event in read_log(path).events] == ["start"]


def test_two_audits_in_one_folder_notice_each_other(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[:3]))
    with (
        open_log(path, SECRET, started(), resume=True) as one,
        open_log(path, SECRET, started(), resume=True) as other,
    ):
        other.add(AttackEnded(attack="retraining"))
        with pytest.raises(OutputError, match="written to by another process"):
            one.add(AttackEnded(attack="retraining"))


def test_a_full_disk_is_refused_with_advice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with open_log(path, SECRET, started(), resume=True) as log:
        monkeypatch.setattr("mlguard.audit.log.file.os.fsync", full)
        with pytest.raises(OutputError, match="No space left") as refusal:
            log.add(AttackEnded(attack="retraining"))
    assert "--resume" in refusal.value.hint


def test_without_a_file_events_are_only_remembered() -> None:
    with open_log(None, b"", started(), resume=False) as log:
        log.add(AttackEnded(attack="retraining"))
        assert log.attack_ended("retraining")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00" * 99, b'{"mac":1}\n'])
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(content)
    with pytest.raises(ReportError):
        read_log(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)
    with pytest.raises(ReportError, match="is not a file of at most"):
        read_log(path)
    with pytest.raises(ReportError, match="is not a file of at most"):
        resumed(path)


def test_a_longer_line_than_any_event_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlguard.audit.log.file.MAX_LINE_BYTES", 300)
    with pytest.raises(ReportError, match="a line is longer than 300"):
        read_log(path)
