"""A model outlives the rotation of its key, and the keystore knows what needs a key."""

import json
from pathlib import Path

import pytest
from PIL import Image

from keystore import Identity, Keystore, KeystoreNotWritable
from mlguard.cli.app import run
from mlguard.keys import ModelKey
from mlguard.protect import read_run
from tests.runs import SMALL

SETTINGS = [word for setting in SMALL for word in ("--set", setting)]
PROTECT = ["protect", "--recipe", "demo", "--device", "cpu", *SETTINGS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and a bundle under version 1 of "acme"; the primary one is version 2."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        set_home(home, patch)
        assert run(["keygen", "acme"]) == 0
        assert run(["keygen", "other"]) == 0
        assert run([*PROTECT, "--key", "acme", "--out", "run"]) == 0
        assert run(["export", "run", "--out", "acme.mlgb"]) == 0
        assert run(["keys", "rotate", "acme", "--promote"]) == 0
        Image.new("RGB", (16, 16)).save("image.png")
    return home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_home(home, monkeypatch)


def set_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(home)
    patch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
    patch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
    patch.setenv("XDG_STATE_HOME", str(home / "state"))


def open_store(home: Path) -> Keystore:
    return Keystore.open(home / "keystore.mlgk", Identity.read(home / "owner.identity"))


def key_id(home: Path, name: str, version: int) -> str:
    with open_store(home) as store:
        return ModelKey(store.get(name, version)).key_id


def protection_id(home: Path) -> str:
    protection = read_run(home / "run").protection
    assert protection is not None
    return protection.protection_id.hex()


def test_predict_finds_the_version_a_bundle_was_made_for(tmp_path: Path) -> None:
    command = ["predict", "acme.mlgb", "image.png", "--key", "acme"]
    assert run([*command, "--out", str(tmp_path / "masks")]) == 0


def test_audit_and_export_find_the_version_a_run_was_made_for(tmp_path: Path) -> None:
    audit = ["audit", "run", "--incorrect-keys", "1", "--device", "cpu"]
    undecided = 31  # one key decides no claim
    assert run([*audit, "--out", str(tmp_path / "report")]) == undecided
    assert run(["export", "run", "--out", str(tmp_path / "again.mlgb")]) == 0


@pytest.mark.parametrize("name", ["acme@2", "other"])
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "acme.mlgb", "image.png"],
        ["audit", "run", "--device", "cpu"],
        ["export", "run"],
    ],
    ids=lambda words: words[0],
)
def test_a_key_that_does_not_fit_is_refused_with_both_key_ids(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    name: str,
) -> None:
    out = tmp_path / "out"
    assert run([*command, "--key", name, "--out", str(out)]) == 21
    told, plain = capsys.readouterr().err, name.partition("@")[0]
    assert f"protected with key {key_id(home, 'acme', 1)}" in told
    assert key_id(home, plain, 2 if "@" in name else 1) in told
    assert not out.exists()


def test_a_disabled_version_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "disable", "acme@1"]) == 0
    command = ["predict", "acme.mlgb", "image.png", "--key", "acme"]
    assert run([*command, "--out", str(tmp_path / "masks")]) == 15
    assert "version 1 of acme is disabled" in capsys.readouterr().err
    assert run(["keys", "enable", "acme@1"]) == 0


def test_protect_and_export_register_what_needs_the_version(home: Path) -> None:
    with open_store(home) as store:
        uses = store.info("acme").uses
    found = [(use.kind, use.reference, use.version) for use in uses]
    assert found == [
        ("bundle", protection_id(home), 1),
        ("run", protection_id(home), 1),
    ]


def test_destroy_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "allow", "acme", "--deletion"]) == 0
    assert run(["keys", "disable", "acme@1"]) == 0
    assert run(["keys", "destroy", "acme@1", "--confirm", "acme"]) == 15
    assert "version 1 of acme is needed by 2: bundle" in capsys.readouterr().err
    assert run(["keys", "enable", "acme@1"]) == 0


def test_a_resumed_run_needs_the_old_version_and_registers_nothing_new(
    home: Path,
) -> None:
    with open_store(home) as store:
        before = store.generation
    assert run([*PROTECT, "--key", "acme", "--out", "run", "--resume"]) == 0
    with open_store(home) as store:
        assert store.generation == before


def test_an_unfinished_run_registers_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*PROTECT, "--key", "other", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("mlguard.protect.training.job.train", lambda *_, **__: 1 / 0)
        assert run(command) == 1
    assert run([*command, "--resume"]) == 0
    with open_store(home) as store:
        assert [use.kind for use in store.info("other").uses] == ["run"]


def test_a_keystore_that_cannot_be_written_stops_no_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KeystoreNotWritable("cannot write keystore.mlgk: Read-only file system")

    monkeypatch.setattr(Keystore, "add_use", refuse)
    out = tmp_path / "run"
    assert run([*PROTECT, "--key", "acme", "--out", str(out)]) == 0
    told = capsys.readouterr().err
    name = json.loads((out / "protection.json").read_text())["protection_id"]
    assert (
        f"warning: could not note in the keystore that run {name} needs acme@2" in told
    )
    assert "Read-only file system" in told
