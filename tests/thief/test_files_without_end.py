"""Every file that a command reads: a pipe is not waited for, a hole is not read.

A file that a stranger left may be a named pipe, which never begins, or a sparse file,
which is as large as its maker pleases and costs him nothing.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.cli.app import run
from tests.bundles import KEY, images
from tests.bundles2 import shuffled, small2_bytes

LONGEST_S = 60  # a command that is still waiting then waits for ever
HOLE_BYTES = 8 << 30
IN = {  # what is read, and the command that reads it; FILE stands for the file
    "recipe": "recipes check FILE.toml",
    "recipe, shown": "recipes show FILE.toml",
    "bundle": "inspect FILE.mlgb",
    "bundle, verified": "verify FILE.mlgb --signer none",
    "bundle, predicted": "predict FILE.mlgb a.png --key acme --out out",
    "bundle, issued": "issue FILE.mlgb --key acme --to x.pub --licensee A --out out",
    "bundle, audited": "audit FILE.mlgb --key acme --out out",
    "image": "predict acme.mlgb FILE.png --key acme --out out",
    "image, drawn": "show-transform FILE.png --recipe demo --out out.png",
    "grant": "predict acme.mlgb a.png --key acme --out out --grant FILE.json",
    "signer": "predict acme.mlgb a.png --key acme --out out --signer FILE.pub",
    "recipient": "issue acme.mlgb --key acme --to FILE.pub --licensee A --out out",
    "terms": "issue acme.mlgb --key acme --to x.pub --licensee A --out o --terms FILE",
    "report": "audit compare FILE.json FILE.json",
    "weights": "bind FILE.safetensors --key acme --recipe camvid_bound --out out",
    "model": "bind FILE.onnx --key acme --out out",
    "model, exported": "export FILE.onnx --key acme --out out.mlgb",
    "keystore": "keys list --keystore FILE",
    "backup": "keys restore FILE --keystore other.mlgk",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a keystore and a bundle, and an alarm against waiting for ever."""
    monkeypatch.chdir(tmp_path)
    identity = Identity.generate()
    identity.write(tmp_path / "owner.identity")
    (tmp_path / "x.pub").write_text(identity.recipient + "\n")
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "k.mlgk"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Keystore.create(tmp_path / "k.mlgk", identity) as store:
        store.add("acme", KEY.reveal())
    (tmp_path / "acme.mlgb").write_bytes(small2_bytes(image=shuffled()))
    Image.fromarray(images(24, 20, 3)).save(tmp_path / "a.png")

    def waited(*_: object) -> None:
        raise AssertionError(f"still waiting after {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(LONGEST_S)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(command: str, file: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says against a file; an internal error is none."""
    status = run([word.replace("FILE", file) for word in command.split()])
    told = capsys.readouterr().err
    assert status not in (0, 1), told
    assert "internal error" not in told
    return told


@pytest.mark.parametrize("what", IN)
def test_a_pipe_is_refused_and_not_waited_for(
    desk: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    suffix = next(w for w in IN[what].split() if "FILE" in w).removeprefix("FILE")
    os.mkfifo(desk / f"pipe{suffix}")
    refused(IN[what], "pipe", capsys)
    assert not (desk / "out").exists() or not list((desk / "out").iterdir())


@pytest.mark.parametrize("what", IN)
def test_a_hole_is_refused_and_not_read(
    desk: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    suffix = next(w for w in IN[what].split() if "FILE" in w).removeprefix("FILE")
    with open(desk / f"hole{suffix}", "wb") as file:
        file.truncate(HOLE_BYTES)
    (desk / f"hole{suffix}").chmod(0o600)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(IN[what], "hole", capsys)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < HOLE_BYTES >> 12  # KiB: a quarter of the file
