"""The long version of the promises about writes: minutes, not seconds."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keystore import Identity, Keystore

ROOT = Path(__file__).parents[2]
KILLS = 200
WRITERS, ADDITIONS = 8, 100
WRITER = """
import sys
from pathlib import Path
from keystore import Identity, Keystore
store = Keystore.open(Path(sys.argv[1]), Identity(bytes(range(32))))
store.busy_timeout(600)
print("open", flush=True)
for number in range(int(sys.argv[3])):
    store.add(f"{sys.argv[2]}-{number}", bytes([7]) * 32)
    print(number, flush=True)
"""

pytestmark = pytest.mark.slow


def writer(path: Path, prefix: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), prefix, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_hundred_kills_lose_no_key_and_break_no_store(
    path: Path, identity: Identity
) -> None:
    draw, confirmed = random.Random(7), {"unet"}
    for turn in range(KILLS):
        process = writer(path, f"k{turn}", 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(draw.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].splitlines()
        confirmed |= {f"k{turn}-{number}" for number in lines}
        assert confirmed <= set(Keystore.open(path, identity).names())
    assert len(confirmed) > KILLS / 2  # the kills did fall into writes
    store = Keystore.open(path, identity)
    assert len(store.check()) >= len(store.names())


def test_eight_processes_add_a_hundred_keys_each(
    path: Path, identity: Identity
) -> None:
    running = [writer(path, f"w{number}", ADDITIONS) for number in range(WRITERS)]
    for process in running:
        assert len(process.communicate(timeout=900)[0].splitlines()) == ADDITIONS + 1
    store = Keystore.open(path, identity)
    assert len(store.names()) == WRITERS * ADDITIONS + 1
    assert len(store.log()) == WRITERS * ADDITIONS + 2
