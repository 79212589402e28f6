"""What is left in the memory of a process after it closed its keystore."""

import subprocess
import sys
from pathlib import Path

import pytest

from keystore import Identity, Keystore, Passphrase, WorkFactor

ROOT = Path(__file__).parents[2]
LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)
WORDS = "a passphrase that is looked for in memory"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/mem")

# The secret comes in two halves, so that the search finds no copy of its own.
SCRIPT = """
import gc, re, sys
from pathlib import Path
from keystore import Identity, Keystore, Passphrase

def found(halves):
    count = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match is None:
                continue
            begin, end = (int(each, 16) for each in match.groups())
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except (OSError, ValueError, OverflowError):
                continue
            at = data.find(halves[0])
            while at >= 0:
                count += data[at + len(halves[0]) :].startswith(halves[1])
                at = data.find(halves[0], at + 1)
    return count

path, verb = Path(sys.argv[1]), sys.argv[2]
wanted = [half.encode() for half in sys.argv[3:]]
store = Keystore.open(path, Identity(bytes(range(32))))
store.get("used")
if verb == "write":
    store.add("new", bytes(range(32)))
while_open = found(wanted)
store.close()
del store
gc.collect()
print(while_open, found(wanted))
"""


@pytest.mark.parametrize("verb", ["read", "write"])
def test_the_other_keys_are_gone_after_close(tmp_path: Path, verb: str) -> None:
    other = bytes(255 - number for number in range(32))
    store = Keystore.create(tmp_path / "k", Identity(bytes(range(32))))
    for name, secret in (("other", other), ("used", bytes(range(1, 33)))):
        store.add(name, secret)
    halves = other.hex()[:32], other.hex()[32:]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "k"), verb, *halves],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    while_open, after = map(int, done.stdout.split())
    assert while_open > 0
    assert after == 0


def test_a_store_wipes_what_it_holds(tmp_path: Path) -> None:
    store = Keystore.create(tmp_path / "k", Identity(bytes(range(32))))
    store.add("other", bytes(range(1, 33)))
    state, member = store._opened.state, store._opened.member
    assert bytes(range(1, 33)).hex().encode() in bytes(state.contents.buffer)
    store.close()
    assert not any(state.contents.buffer)
    assert not any(member.wrapping_key)


def test_an_opener_can_be_wiped(tmp_path: Path) -> None:
    passphrase, identity = Passphrase(WORDS, work=LIGHT), Identity(bytes(range(32)))
    Keystore.create(tmp_path / "k", passphrase)
    passphrase.wipe()
    identity.wipe()
    with pytest.raises(ValueError, match="was wiped"):
        Keystore.open(tmp_path / "k", passphrase)
    assert not any(identity._secret)


def test_a_wiped_state_does_not_disturb_the_next_one(tmp_path: Path) -> None:
    """The twin: every write wipes the state before, and loses nothing."""
    store = Keystore.create(tmp_path / "k", Identity(bytes(range(32))))
    for number in range(5):
        store.add(f"k-{number}", bytes([number]) * 32)
    for number in range(5):
        assert store.get(f"k-{number}") == bytes([number]) * 32
    again = Keystore.open(tmp_path / "k", Identity(bytes(range(32))))
    assert again.names() == store.names()
