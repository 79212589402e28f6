"""Known secrets, and a tour through every command: they must show up nowhere.

Every command is a process of its own. While it runs, the command lines and the
environments of all processes are read; afterwards its words and all files are searched.
"""

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keystore import Identity
from keystore.textform import to_text
from mlguard.cli.key_lifecycle import KEY_1
from tests.runs import SMALL

ROOT = Path(__file__).parents[2]
PASSPHRASES = ("canary passphrase one", "canary passphrase two")
SECRET = bytes(range(200, 232))
IDENTITY = Identity(bytes(range(100, 132)))
INPUTS = ("one", "two", "identity", "key.txt")  # and "out.txt", which is asked for
BUG = """
import mlguard.cli.key_listing as listing
from mlguard.cli import app
def broken(value, text, *, as_json):
    raise RuntimeError("a bug")
listing.answer = broken
app.main()
"""
SMALL_RUN = [word for setting in SMALL for word in ("--set", setting)]
PROTECT = ["protect", "--recipe", "demo", "--device", "cpu", *SMALL_RUN]


def canaries() -> dict[str, bytes]:
    """Every secret in every form it could be written in."""
    found: dict[str, bytes] = {}
    for number, passphrase in enumerate(PASSPHRASES):
        found |= forms(f"passphrase {number}", passphrase.encode())
    found |= forms("model key", SECRET)
    found |= forms("identity", bytes(range(100, 132)))
    found["identity as text"] = IDENTITY.reveal().encode()[-40:]
    found["model key as text"] = to_text(KEY_1, SECRET).encode()[-40:]
    return found


def forms(name: str, secret: bytes) -> dict[str, bytes]:
    return {
        name: secret,
        f"{name} in hex": secret.hex().encode(),
        f"{name} in base64": base64.b64encode(secret)[:40],
        f"{name} in base32": base64.b32encode(secret)[:40],
        f"{name} as Python writes it": repr(secret)[2:-1].encode(),
    }


class Tour:
    """Types commands and collects all that could be seen of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.seen: dict[str, bytes] = {}
        self._environment = os.environ | {
            "MLGUARD_DEBUG": "1",
            "MLGUARD_KEYSTORE": str(home / "keystore.mlgk"),
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(home / "state"),
        }

    def type(self, *words: str, opener: str = "one", status: int = 0) -> None:
        """Run a command; the passphrase comes through a descriptor or a file."""
        self._run(["-m", "mlguard", *words], opener, status)

    def break_(self, *words: str) -> None:
        """Run a command that ends in a traceback."""
        self._run(["-c", BUG, *words], "one", 1)

    def _run(self, words: list[str], opener: str, status: int) -> None:
        with open(self.home / opener, "rb") as file, watched() as watch:
            options = {
                "identity": ["--identity", "identity"],
                "one": ["--passphrase-fd", str(file.fileno())],
                "two": ["--passphrase-file", "two"],
            }
            needs = "doctor" not in words
            done = subprocess.run(
                [sys.executable, *words, *(options[opener] if needs else [])],
                cwd=self.home,
                env=self._environment,
                pass_fds=[file.fileno()],
                capture_output=True,
                check=False,
            )
        told = done.stdout + done.stderr
        assert done.returncode == status, (words, told.decode())
        assert watch.samples > 0
        name = " ".join(words)
        self.seen |= {f"words of {name}": told, f"/proc during {name}": watch.found}

    def files(self) -> dict[str, bytes]:
        kept = {self.home / name for name in (*INPUTS, "out.txt")}
        paths = [path for path in self.home.rglob("*") if path.is_file()]
        return {str(p): p.read_bytes() for p in paths if p not in kept}


class Watch:
    """What /proc showed."""

    def __init__(self) -> None:
        self.samples = 0
        self._parts: set[bytes] = set()
        self._stop = threading.Event()

    @property
    def found(self) -> bytes:
        return b"\n".join(sorted(self._parts))

    def loop(self) -> None:
        while not self._stop.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        self._parts.add((folder / name).read_bytes())
                    except OSError:
                        continue  # it ended, or is another user's
            self.samples += 1
            self._stop.wait(0.02)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    thread = threading.Thread(target=watch.loop)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()


def hits(seen: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (place, name)
        for place, text in seen.items()
        for name, secret in canaries().items()
        if secret in text
    ]


@pytest.fixture
def tour(tmp_path: Path) -> Tour:
    for name, text in zip(("one", "two"), PASSPHRASES, strict=True):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    IDENTITY.write(tmp_path / "identity")
    (tmp_path / "key.txt").touch(0o600)
    (tmp_path / "key.txt").write_text(to_text(KEY_1, SECRET))
    return Tour(tmp_path)


@pytest.mark.slow
def test_secrets_show_up_nowhere_in_a_tour_through_the_keys_commands(
    tour: Tour,
) -> None:
    tour.type("keygen", "first", "--no-recovery")
    tour.type("keys", "slots", "add", "file", "--new-identity", "identity")
    tour.type("keys", "import", "acme", "key.txt")
    tour.type("keys", "new", "beta", "--note", "hello", "--json", opener="identity")
    tour.type("keys", "import", "beta", "key.txt", "--version", opener="identity")
    tour.type("keys", "rotate", "acme", opener="identity")
    tour.type("keys", "promote", "acme@2", opener="identity")
    tour.type("keys", "promote", "acme@1", opener="identity")
    tour.type("keys", "note", "acme", "a note", opener="identity")
    tour.type("keys", "uses", "acme", "--add", "run", "r1", opener="identity")
    tour.type("keys", "list", "--json")
    tour.type("keys", "show", "acme", "--json", opener="identity")
    tour.type("keys", "allow", "acme", "--export", "--deletion", opener="identity")
    tour.type("keys", "export", "acme", "out.txt", opener="identity")
    tour.type("keys", "disable", "acme@2", "--compromised", opener="identity")
    tour.type("keys", "enable", "acme@2", "--force", opener="identity")
    tour.type("keys", "disable", "acme@2", opener="identity")
    destroy = ("keys", "destroy", "acme@2", "--confirm", "acme")
    tour.type(*destroy, opener="identity")
    tour.type("keys", "passwd", "--new-passphrase-file", "two")
    tour.type("keys", "list", opener="one", status=11)  # it is not "one" any more
    tour.type("keys", "slots", "list", "--json", opener="two")
    tour.type("keys", "backup", "copy.mlgk", opener="identity")
    tour.type("keys", "restore", "copy.mlgk", opener="identity")
    tour.type("keys", "check", "--json", opener="identity")
    tour.type("keys", "accept", opener="identity")
    tour.type("keys", "log", "--json", opener="identity")
    tour.type("keys", "slots", "remove", "file", opener="two")
    tour.type("keys", "list", opener="identity", status=11)
    tour.type("doctor", "--keystore", "keystore.mlgk")
    assert hits(tour.seen | tour.files()) == []


def test_secrets_show_up_in_no_traceback(tour: Tour) -> None:
    tour.type("keygen", "first", "--no-recovery")
    tour.type("keys", "import", "acme", "key.txt")
    tour.break_("keys", "show", "acme")
    assert b"Traceback" in b"".join(tour.seen.values())
    assert b"a bug" in b"".join(tour.seen.values())
    assert hits(tour.seen | tour.files()) == []


@pytest.mark.slow
def test_secrets_show_up_nowhere_in_a_tour_from_training_to_audit(tour: Tour) -> None:
    tour.type("keygen", "first", "--no-recovery")
    tour.type("keys", "import", "acme", "key.txt")
    tour.type(*PROTECT, "--key", "acme", "--out", "run", "--baseline")
    tour.type("export", "run", "--out", "acme.mlgb")
    samples = ["--recipe", "demo", "--out", "images", "--count", "2", *SMALL_RUN]
    subprocess.run(
        [sys.executable, "-m", "mlguard", "samples", *samples],
        cwd=tour.home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    predict = ("predict", "acme.mlgb", "images", "--out", "masks")
    tour.type(*predict, "--key", "acme")
    tour.type(*predict[:-1], "stolen", "--key", "first", status=21)
    audit = ("audit", "run", "--device", "cpu", "--incorrect-keys", "2")
    tour.type(*audit, "--out", "report", status=31)  # two keys decide no claim
    figure = ("show-transform", "images/test-00000.png", "--recipe", "demo")
    tour.type(*figure, "--key", "acme", "--out", "figure.png")
    assert hits(tour.seen | tour.files()) == []


def test_secrets_in_files_or_proc_would_be_found(tour: Tour) -> None:
    """The twin of the tests above."""
    names = list(canaries())
    for number, secret in enumerate(canaries().values()):
        (tour.home / f"leak-{number}").write_bytes(b"x" + secret + b"x")
    assert {name for _, name in hits(tour.files())} == set(names)
    environment = {b"PATH": os.environb[b"PATH"]}
    environment |= {b"L%d" % n: leak for n, leak in enumerate(canaries().values())}
    with watched() as watch:
        subprocess.run([b"sleep", b"0.5"], env=environment, check=True)
    assert {name for _, name in hits({"proc": watch.found})} == set(names)
