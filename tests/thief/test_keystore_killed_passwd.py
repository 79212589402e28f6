"""A `passwd` that is killed at any step leaves no copy that what was taken opens."""

import subprocess
import sys
from pathlib import Path

import pytest

from keystore import Identity, Keystore, KeystoreError

ROOT = Path(__file__).parents[2]
OLD, NEW = Identity(bytes(range(32))), Identity(bytes(range(1, 33)))
CALLS = ("open", "write", "fsync", "link", "replace", "unlink", "close")
CHANGE = """
import os, signal, sys
from pathlib import Path
from keystore import Identity, Keystore
path, call, nth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = Keystore.open(path, Identity(bytes(range(32))))
real, calls = getattr(os, call), []
def deadly(*args, **kwargs):
    calls.append(None)
    if len(calls) == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(os, call, deadly)
store.replace_slot(Identity(bytes(range(1, 33))))
setattr(os, call, real)
"""


def opened_by(identity: Identity, folder: Path) -> set[str]:
    found = set()
    for file in folder.iterdir():
        try:
            Keystore.open(file, identity).close()
        except KeystoreError:
            continue
        found.add(file.name)
    return found


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_change_leaves_no_copy_that_the_old_opener_opens(
    tmp_path: Path, call: str
) -> None:
    """Unless nothing has changed yet: then the store itself is the old one."""
    for nth in range(1, 12):
        folder = tmp_path / str(nth)
        path = folder / "keystore"
        Keystore.create(path, OLD).add("unet", bytes(32))
        assert opened_by(OLD, folder) == {"keystore", "keystore.bak"}
        words = [sys.executable, "-c", CHANGE, str(path), call, str(nth)]
        done = subprocess.run(words, cwd=ROOT, check=False)
        changed = "keystore" in opened_by(NEW, folder)
        if changed:
            assert opened_by(OLD, folder) == set()
        else:
            assert "keystore" in opened_by(OLD, folder)
        if done.returncode == 0:
            assert changed
            break
    else:
        pytest.fail("never got through")
