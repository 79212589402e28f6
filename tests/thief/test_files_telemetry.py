"""What a command leaves behind and whom it calls: nothing and nobody, unless asked.

onnxruntime, left alone, writes a device id and a database below HOME and a file below
TMPDIR as soon as it is imported, and asks for its collector's address later.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlguard.bundle import write_bundle
from tests.bundles import images, small_bundle

ROOT = Path(__file__).parents[2]
OWN = ("home/.local/state/mlguard", "home/.config/mlguard")  # what the user asked for
RAW = "import onnxruntime"
SESSION = """
from pathlib import Path
import numpy as np
from mlguard.keys import ModelKey
from mlguard.runtime import Session
session = Session.open(Path("small.mlgb"), ModelKey(bytes(range(32))))
session.predict(np.load("images.npy"))
"""
COMMANDS = [
    ["--help"],
    ["keys", "--help"],
    ["exit-codes"],
    ["doctor"],
    ["recipes", "list"],
    ["keys", "list"],
    ["predict", "small.mlgb", "images.npy", "--key", "acme", "--out", "masks"],
    ["audit", "small.mlgb", "--key", "acme", "--out", "report"],
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a bundle, an image, an empty home and an empty TMPDIR."""
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    write_bundle(tmp_path / "small.mlgb", small_bundle())
    np.save(tmp_path / "images.npy", images(1, 3, 9, 13))
    return tmp_path


def python(
    place: Path, *arguments: str, home: str = "", tracer: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run python with an environment of its own."""
    environment = {
        "HOME": home or str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [*tracer, sys.executable, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def left(place: Path) -> list[str]:
    """Files below HOME and TMPDIR that nobody asked for."""
    folders = (place / "home", place / "tmp")
    files = (p for folder in folders for p in folder.rglob("*") if not p.is_dir())
    names = sorted(path.relative_to(place).as_posix() for path in files)
    return [name for name in names if not name.startswith(OWN)]


def test_onnxruntime_left_alone_would_be_seen(place: Path) -> None:
    python(place, "-c", RAW)
    assert any(name.endswith("deviceid") for name in left(place))


@pytest.mark.parametrize(
    "module", ["mlguard.runtime", "mlguard.keys", "mlguard.protect.export"]
)
def test_importing_onnxruntime_after_any_of_ours_leaves_nothing(
    place: Path, module: str
) -> None:
    done = python(place, "-c", f"import {module}, onnxruntime")
    assert (done.returncode, done.stderr) == (0, "")
    assert left(place) == []


def test_a_session_leaves_nothing(place: Path) -> None:
    done = python(place, "-c", SESSION)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert left(place) == []


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_command_leaves_nothing_that_nobody_asked_for(
    place: Path, words: list[str]
) -> None:
    done = python(place, "-m", "mlguard", *words)
    assert "Traceback" not in done.stderr
    assert done.returncode != 1, done.stderr
    assert left(place) == []


@pytest.mark.skipif(sys.platform == "win32", reason="/proc is a Linux matter")
def test_a_home_that_cannot_be_written_draws_no_warning(place: Path) -> None:
    done = python(place, "-c", SESSION, home="/proc/none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert left(place) == []


def traced(place: Path, program: str) -> str:
    """Sockets and files that a program opens, as strace writes them."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = place / "trace"
    calls = ("-f", "-qq", "-e", "trace=socket,connect,openat,mkdir,mkdirat")
    done = python(place, "-c", program, tracer=(strace, *calls, "-o", str(log)))
    if not log.exists() or "Operation not permitted" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    return log.read_text()


def written(trace: str) -> list[str]:
    """Paths opened for writing or made."""
    opened = re.findall(r'openat\([^"]*"([^"]+)", [A-Z_|]*O_(?:WRONLY|RDWR)', trace)
    made = re.findall(r'mkdir(?:at)?\([^"]*"([^"]+)"', trace)
    return [path for path in opened + made if not path.startswith(("/dev/", "/proc/"))]


def test_a_session_opens_no_socket_and_writes_no_file(place: Path) -> None:
    trace = traced(place, SESSION)
    assert "openat" in trace
    assert re.findall(r"socket\(AF_INET6?|connect\(", trace) == []
    assert [p for p in written(trace) if "__pycache__" not in p] == []


def test_the_trace_sees_a_socket_and_a_file(place: Path) -> None:
    program = "import socket; socket.socket(); open('f', 'w'); import onnxruntime"
    trace = traced(place, program)
    assert re.search(r"socket\(AF_INET", trace)
    assert "f" in written(trace)
    assert any(path.endswith("onnxruntime.db") for path in written(trace))
