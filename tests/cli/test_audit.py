"""`mlguard audit` as a user types it: what it prints, writes and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keystore import Identity, Keystore
from mlguard.audit import read_report
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.log.file import AuditLog
from mlguard.cli.app import run as mlguard
from tests.audits import KEY, OTHER_KEY, TINY, VERDICTS, make_run

ROOT = Path(__file__).parents[2]
IDENTITY = Identity(bytes(range(32)))
UNDECIDED = 31  # a few images of a small model decide no claim


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, and a keystore with its key and another one."""
    folder = tmp_path_factory.mktemp("audit")
    make_run(folder / "run")
    IDENTITY.write(folder / "identity")
    with Keystore.create(folder / "keys.mlgk", IDENTITY) as store:
        store.add("acme", KEY.reveal())
        store.add("other", OTHER_KEY.reveal())
    return folder


@pytest.fixture
def audit(folder: Path, tmp_path: Path):
    """Run `mlguard audit` with the options that every call here needs."""

    def call(*options: str, run: str = "run", out: str = "report") -> int:
        words = ["audit", str(folder / run), "--out", str(tmp_path / out)]
        store = ["--keystore", str(folder / "keys.mlgk")]
        opener = ["--identity", str(folder / "identity")]
        return mlguard([*words, *store, *opener, "--device", "cpu", *options])

    return call


def test_prints_the_table_and_writes_the_report(audit, tmp_path, capsys) -> None:
    assert audit("--key", "acme") == UNDECIDED
    shown = capsys.readouterr().out
    for words in ("correct key", "no key", "best of 3", "floor", "warning: "):
        assert words in shown
    assert f"report: {tmp_path}/report/audit.html" in shown.replace("\n", "")
    assert read_report(tmp_path / "report/audit.json").findings.images == 6


def test_json_is_the_file_and_nothing_else(audit, tmp_path, capsys) -> None:
    assert audit("--json") == UNDECIDED
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "report/audit.json").read_text()
    assert json.loads(shown)["schema"] == "mlguard.audit/4"


def test_the_key_is_the_run_s_own_if_left_out(audit, tmp_path) -> None:
    assert audit() == UNDECIDED
    assert read_report(tmp_path / "report/audit.json").subject.key_id == KEY.key_id


def test_options_override_the_recipe(audit, tmp_path) -> None:
    assert (
        audit("--incorrect-keys", "2", "--seed", "9", "--split", "validation")
        == UNDECIDED
    )
    report = read_report(tmp_path / "report/audit.json")
    assert len(report.findings.incorrect.scores) == 2
    assert (report.seed, report.material.split) == (9, "validation")
    assert "--split validation --incorrect-keys 2 --seed 9" in report.command


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--key", "other"], 21, "was protected with key"),
        (["--key", "none"], 15, "none"),
        (["--split", "holiday"], 40, "expected one of train, validation, test"),
        (["--incorrect-keys", "0"], 2, "--incorrect-keys"),
        (["--incorrect-keys", "100001"], 2, "--incorrect-keys"),
        (["--seed", str(2**31)], 2, "--seed"),
        (["--examples", "101"], 2, "--examples"),
        (["--attacks", "magic"], 40, "expected some of without-key, exhaustive"),
        (["--budget", "endless"], 40, "expected one of none, quick"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_refusals_leave_nothing(
    audit, tmp_path, capsys, options: list[str], status: int, words: str
) -> None:
    assert audit(*options) == status
    assert words in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "report" in path.name]


def test_attacks_are_run_when_they_are_named(audit, tmp_path, capsys) -> None:
    assert audit("--attacks", "known-plaintext") == UNDECIDED
    assert "known-plaintext, one pair" in capsys.readouterr().out
    report = read_report(tmp_path / "report/audit.json")
    assert report.attacks is not None
    assert (report.attacks.budget, report.attacks.split) == ("quick", "validation")


@pytest.mark.parametrize(
    ("claim", "status"),
    [("max_leakage=1.0", 31), ("max_leakage=0.0", 31), ("min_fidelity=1.0", 31)],
)
def test_a_claim_decides_the_exit_code(
    folder, tmp_path, capsys, claim: str, status: int
) -> None:
    make_run(tmp_path / "run", f"audit.{claim}")
    words = ["audit", str(tmp_path / "run"), "--out", str(tmp_path / "report")]
    store = ["--keystore", str(folder / "keys.mlgk")]
    assert mlguard([*words, *store, "--identity", str(folder / "identity")]) == status
    assert "INCONCLUSIVE" in capsys.readouterr().out
    verdicts = read_report(tmp_path / "report/audit.json").verdicts
    (verdict,) = [one for one in verdicts if one.source == "recipe"]
    assert verdict.answer == "INCONCLUSIVE"


def test_a_claim_that_fails_exits_with_30(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "mlguard.audit.report.assemble.decide", lambda *_, **__: VERDICTS[:2]
    )
    words = ["audit", str(folder / "run"), "--out", str(tmp_path / "report")]
    store = ["--keystore", str(folder / "keys.mlgk")]
    assert mlguard([*words, *store, "--identity", str(folder / "identity")]) == 30
    assert (tmp_path / "report/audit.html").exists()


def stop_after(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    """Press Ctrl-C when so many events are in the log."""
    add = AuditLog.add

    def stop(self: AuditLog, *new: object) -> None:
        add(self, *new)
        if len(self.events) == events:
            raise KeyboardInterrupt

    monkeypatch.setattr(AuditLog, "add", stop)


def test_ctrl_c_says_how_to_go_on_and_resume_does(
    audit, tmp_path, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert audit() == 3
    shown = capsys.readouterr().err
    assert "its measurements are in" in shown
    assert "hint: resume with the same command and --resume" in shown
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["audit.jsonl"]
    assert audit() == 41
    assert "resume the audit" in capsys.readouterr().err
    assert audit("--resume") == UNDECIDED
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {
        "audit.html",
        "audit.json",
        "audit.jsonl",
        "audit.proof",
        "junit.xml",
    }


def test_ctrl_c_before_anything_is_measured_leaves_nothing(
    audit, tmp_path, monkeypatch, capsys
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlguard.audit.run.auditing.describe", stop)
    assert audit() == 3
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_killed_audit_goes_on(audit, folder, tmp_path) -> None:
    """A kill runs no handler: what is on the disk must be enough."""
    words = ["audit", str(folder / "run"), "--out", str(tmp_path / "report")]
    words += ["--keystore", str(folder / "keys.mlgk"), "--device", "cpu"]
    words += ["--identity", str(folder / "identity")]
    probe = (
        "import os; from mlguard.audit.log import AuditLog; add = AuditLog.add\n"
        "def kill(self, *new):\n"
        "    add(self, *new)\n"
        "    if len(self.events) == 2: os.kill(os.getpid(), 9)\n"
        "AuditLog.add = kill\n"
        f"from mlguard.cli.app import run; run({words!r})"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "report/audit.json").exists()
    assert audit("--resume") == UNDECIDED
    assert audit(out="whole") == UNDECIDED
    one, other = (
        read_report(tmp_path / name / "audit.json") for name in ("report", "whole")
    )
    assert one.findings == other.findings


BUDGET = """
from mlguard.audit.findings.budgets import BUDGETS
from tests.audits import TINY
BUDGETS["quick"] = TINY
import sys; from mlguard.cli.app import run; sys.exit(run(sys.argv[1:]))
"""


def test_two_processes_of_torchrun_find_what_one_finds(
    audit, folder, tmp_path, monkeypatch
) -> None:
    """Parts of the images, outcomes and controls are shared out; counts are whole."""
    monkeypatch.setitem(BUDGETS, "quick", TINY)
    attacks = ("--attacks", "hill-climbing,retraining")
    assert audit(*attacks, out="one") == UNDECIDED
    (tmp_path / "audit.py").write_text(BUDGET)
    words = ["audit", str(folder / "run"), "--device", "cpu", *attacks]
    words += ["--keystore", str(folder / "keys.mlgk"), "--out", str(tmp_path / "two")]
    words += ["--identity", str(folder / "identity")]
    # A port of its own: another test may run at the same time.
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [sys.executable, *command, str(tmp_path / "audit.py"), *words]
    done = subprocess.run(started, env=environment)
    assert done.returncode == 1, "torchrun says 1 for any other"
    one, two = (read_report(tmp_path / n / "audit.json") for n in ("one", "two"))
    assert two.findings == one.findings
    assert two.attacks == one.attacks
    assert one.attacks is not None
    assert len(one.attacks.findings) > 5
    lines = [(tmp_path / n / "audit.jsonl").read_text() for n in ("one", "two")]
    kinds = [[json.loads(x)["event"] for x in one.splitlines()] for one in lines]
    assert kinds[0] == kinds[1]


def test_resume_of_another_audit_is_refused(
    audit, tmp_path, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert audit() == 3
    assert audit("--resume", "--seed", "5") == 40
    assert "settings.seed was 0 and is now 5" in capsys.readouterr().err
    assert audit("--resume") == UNDECIDED, "and nothing is lost by it"


def test_a_finished_audit_is_not_resumed(audit, capsys) -> None:
    assert audit("--resume") == UNDECIDED
    assert audit("--resume") == 41
    assert "is finished" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(audit, tmp_path, capsys) -> None:
    assert audit(run="nothing") == 40
    assert "nothing: no such file or folder" in capsys.readouterr().err


def test_a_report_is_never_overwritten(audit, tmp_path, capsys) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/mine.txt").write_text("mine")
    assert audit() != 0
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["mine.txt"]


def test_an_option_sets_a_threshold_and_its_source_is_printed(
    audit, tmp_path, capsys
) -> None:
    assert audit("--claim", "random-keys=0.9", "--claim", "key-bits=8") == UNDECIDED
    verdicts = read_report(tmp_path / "report/audit.json").verdicts
    said = {one.claim: (one.threshold, one.source) for one in verdicts}
    assert said["random-keys"] == (0.9, "option")
    assert said["fidelity"][1] == "default"
    shown = " ".join(capsys.readouterr().out.split())
    assert "at least 8 (set by --claim)" in shown
    assert "(the default)" in shown


@pytest.mark.parametrize("text", ["magic=1", "fidelity", "fidelity=much", "=", "x=-1"])
def test_a_claim_that_is_none_is_refused(audit, capsys, text: str) -> None:
    assert audit("--claim", text) == 40
    assert "--claim: expected CLAIM=NUMBER" in capsys.readouterr().err


def test_only_their_owner_reads_what_an_audit_wrote(audit, tmp_path) -> None:
    assert audit() == UNDECIDED
    written = list((tmp_path / "report").iterdir())
    assert len(written) == 5
    assert [path.name for path in written if path.stat().st_mode & 0o077] == []
