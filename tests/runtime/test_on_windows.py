"""What a customer runs works without the calls that only POSIX systems have.

Windows itself is not at hand here: its absences are made on this system, for our own
modules alone, since the packages that we stand on have code of their own for it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mlguard.bundle import write_bundle
from mlguard.cli.app import run
from tests.bundles import images, small_bundle
from tests.cli.test_issue import TO_HOSPITAL, office  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
WINDOWS = """
import builtins, os, sys
import cryptography.hazmat.primitives.ciphers.aead, filelock, numpy, pydantic
import rich.progress, typer.main
import mlguard, onnxruntime, PIL.Image
OURS = ("mlguard", "keystore", "refusals")
MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty"}
NAMES = ["geteuid", "getuid", "getegid", "getgid", "fchmod", "fchown", "chown",
         "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_SYNC", "fork",
         "setsid", "getpgid", "killpg", "mkfifo", "statvfs", "sched_getaffinity"]
real_import, real_open = builtins.__import__, os.open

def windows_import(name, globals=None, *rest, **options):
    caller = (globals or {}).get("__name__", "")
    if name in MODULES and caller.partition(".")[0] in OURS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real_import(name, globals, *rest, **options)

def windows_open(path, *rest, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return real_open(path, *rest, **options)

builtins.__import__, os.open = windows_import, windows_open
for name in NAMES:
    if hasattr(os, name):
        delattr(os, name)
"""
RUN = "from mlguard.cli.app import run; sys.exit(run(sys.argv[1:]))"


def on_windows(
    place: Path, *arguments: str, program: str = RUN
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"XDG_STATE_HOME": str(place / "state"), "HOME": str(place)}
    return subprocess.run(
        [sys.executable, "-c", WINDOWS + program, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def place(office: Path) -> Path:  # noqa: F811
    """A customer's folder: his identity, a bundle issued to him, and an image."""
    assert run(TO_HOSPITAL) == 0
    Image.fromarray(images(24, 20, 3)).save(office / "a.png")
    write_bundle(office / "small.mlgb", small_bundle())
    return office


MINE = ("--identity", "hospital.identity")


def test_a_customer_predicts(place: Path) -> None:
    words = ("predict", "hospital.mlgb", "a.png", "--out", "masks")
    done = on_windows(place, *words, *MINE)
    assert done.returncode == 0, done.stderr
    assert (place / "masks" / "a.png").exists()


def test_a_session_runs(place: Path) -> None:
    program = (
        "import numpy as np; from pathlib import Path; "
        "from mlguard.keys import ModelKey; "
        "from mlguard.runtime import Session, read_image; "
        "key = ModelKey(bytes(range(32))); "
        "Session.open(Path('small.mlgb'), key).predict(read_image(Path('a.png')))"
    )
    done = on_windows(place, program=program)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("identity", "new", "mine.identity"),
        ("identity", "show", "hospital.identity"),
        ("inspect", "hospital.mlgb"),
        ("selftest", "hospital.mlgb", *MINE),
        ("recipes", "list"),
        ("--help",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_a_customer_needs_runs(place: Path, words: tuple[str, ...]) -> None:
    done = on_windows(place, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [("keys", "list"), ("keygen", "second"), ("doctor", "--keystore", "k.mlgk")],
)
def test_the_keystore_says_that_it_needs_another_system(
    place: Path, words: tuple[str, ...]
) -> None:
    done = on_windows(place, *words)
    assert done.returncode in (2, 10)
    assert "a keystore in a file needs a POSIX system" in done.stdout + done.stderr


@pytest.mark.parametrize("what", ["import fcntl", "os.geteuid()", "os.O_NOFOLLOW"])
def test_a_call_that_windows_lacks_would_be_seen(place: Path, what: str) -> None:
    program = f"\n__name__ = 'mlguard.x'\n{what}"
    done = on_windows(place, program=program)
    assert done.returncode != 0
    assert "Error" in done.stderr
