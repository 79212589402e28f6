"""What the process of a command is set to: no core dumps, no spinning, a clean end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlguard import quota
from mlguard.cli import process

PROBE = """
import os, sys
{before}
from mlguard.cli import app
sys.argv = ["mlguard", *{arguments}]
try:
    app.main()
except SystemExit:
    pass
{after}
"""


def probe(after: str, *arguments: str, before: str = "", **variables: str) -> str:
    """What a process says after a command ran in it."""
    script = PROBE.format(before=before, after=after, arguments=arguments)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


LIMIT = "import resource; print(max(resource.getrlimit(resource.RLIMIT_CORE)))"


def test_a_command_leaves_no_core_dump() -> None:
    assert int(probe(LIMIT, "--version")) in (0, 1)


@pytest.mark.parametrize(("hard", "left"), [(0, 0), (1, 1), (5, 1), (-1, 1)])
def test_limit_of_core_dumps_is_one_byte_or_none(
    monkeypatch: pytest.MonkeyPatch, hard: int, left: int
) -> None:
    """One byte: at no byte Linux still hands the dump to a collector of dumps."""
    resource = pytest.importorskip("resource")
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (0, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, to: set_to.append(to))
    process.no_core_dumps()
    assert set_to == [(left, left)]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_memory_with_a_secret_is_hidden_from_other_processes() -> None:
    """And not before: a training may be looked at with a debugger."""
    shown = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    hiding = "from mlguard.cli.process import hide_memory; hide_memory();"
    assert probe(shown, "--version") == "1"
    assert probe(hiding + shown, "--version") == "0"


def test_waiting_threads_do_not_spin_unless_asked_to() -> None:
    after = "print(os.environ['OMP_WAIT_POLICY'])"
    assert probe(after, "--version") == "PASSIVE"
    assert probe(after, "--version", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_threads_are_those_asked_for() -> None:
    after = "import torch; print(torch.get_num_threads())"
    assert probe(after, "--threads", "1", "exit-codes") == "1"
    after = "print(os.environ['OMP_NUM_THREADS'])"
    assert probe(after, "--threads", "3", "exit-codes") == "3"


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("150000 100000", 2),
        ("100000 100000", 1),
        ("5000 100000", 1),
        ("max 100000", None),
        ("99999900000 100000", None),
        ("-1 100000", None),
        ("1 0", None),
        ("", None),
        ("a b", None),
    ],
)
def test_cores_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(quota, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(quota, "OLD_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert process.cores_of_quota() == cores


def test_quota_of_an_older_kernel_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quota").write_text("300000\n")
    (tmp_path / "period").write_text("100000\n")
    monkeypatch.setattr(quota, "QUOTA", tmp_path / "none")
    monkeypatch.setattr(quota, "OLD_QUOTA", tmp_path / "quota")
    monkeypatch.setattr(quota, "OLD_PERIOD", tmp_path / "period")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert process.cores_of_quota() == 3


SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from mlguard.cli import app
from mlguard.cli import exit_codes
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned", flush=True)
exit_codes.exit_codes = wait
sys.argv = ["mlguard", "exit-codes"]
app.main()
"""


def ended_by(number: int) -> tuple[str, int]:
    """What a waiting command says, and its status, when it gets a signal."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    said, _ = child.communicate()
    return said, child.returncode


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_command_that_is_told_to_end_cleans_up(name: str) -> None:
    assert ended_by(getattr(signal, name)) == ("cleaned\n", 3)


NOHUP = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from mlguard.cli.process import set_up
set_up()
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
"""


def output_of(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_hang_up_that_nohup_ignores_stays_ignored() -> None:
    assert output_of(NOHUP).stdout == "True\n"


WITHIN_EXEC = """
from mlguard import __main__ as entry
from mlguard.cli import app
def interrupted():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        {then}
app.main = interrupted
entry.main()
"""


@pytest.mark.parametrize("then", ["raise", "raise SystemExit(3) from None"])
def test_interrupt_within_text_that_is_run_ends_with_its_status(
    tmp_path: Path, then: str
) -> None:
    """CPython's `-m` would end by SIGINT, though the interrupt was handled."""
    (tmp_path / "stopped.py").write_text(WITHIN_EXEC.format(then=then))
    command = [sys.executable, "-m", "stopped"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 3


CLOSED = """
import os
for descriptor in (0, 2):
    os.close(descriptor)
from mlguard.cli.process import set_up
set_up()
file = os.open(os.devnull, os.O_RDONLY)
print([os.path.samestat(os.fstat(n), os.fstat(file)) for n in (0, 2)], file > 2)
"""


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    """A library that prints to descriptor 2 would write into that file."""
    assert output_of(CLOSED).stdout == "[True, True] True\n"
