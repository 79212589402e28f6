"""A thief reads what a killed command leaves beside the folder it was to write."""

import os
import subprocess
import sys
from pathlib import Path

from tests.runs import small_baseline

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from mlguard.protect import bind_model, bound_recipe, read_plain
from mlguard.protect.binding import bind
from tests.runs import KEY

bind._put = lambda whole, out: os.kill(os.getpid(), signal.SIGKILL)
plain = read_plain(Path(sys.argv[1]))
recipe = bound_recipe(plain, methods=["shf"])
bind_model(plain, recipe, KEY, Path(sys.argv[2]), key_name="acme")
"""


def test_killed_bind_leaves_nothing_that_others_can_read(tmp_path: Path) -> None:
    plain = small_baseline(tmp_path / "plain").path
    place = tmp_path / "place"
    place.mkdir()
    command = [sys.executable, "-c", KILLED, str(plain), str(place / "bound")]
    done = subprocess.run(command, cwd=ROOT, check=False, umask=0)
    assert done.returncode < 0
    (left,) = place.iterdir()
    assert left.stat().st_mode & 0o077 == 0
    files = [file for file in left.rglob("*") if file.is_file()]
    assert "model.safetensors" in {file.name for file in files}
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in files)
