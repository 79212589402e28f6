"""`mlguard keygen` and `mlguard keys`: what is made, printed, and refused."""

import io
import stat
from pathlib import Path

import pytest

from keystore import (
    Identity,
    IdentityError,
    InvalidName,
    KeyExists,
    KeyNotFound,
    Keystore,
    NoSlotOpens,
    PassphraseMissing,
)
from mlguard.cli import key_listing, keys
from mlguard.keys import ModelKey


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "keystore.mlgk"


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def test_the_first_key_makes_the_keystore_and_the_identity(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    out, err = capsys.readouterr()
    secret = Keystore.open(store, Identity.read(identity)).get("acme")
    assert out.startswith(f"acme  {ModelKey(secret).key_id}  in {store}\n")
    assert f"made {identity}" in err
    assert f"made the keystore {store}" in err
    assert secret.hex() not in out + err
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600


def test_the_key_space_of_every_method_is_printed(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", key_space=True, keystore=store, identity=identity)
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
    assert rows["M=2"] == ["M=4", "M=8"]
    assert rows["shf"] == ["28.8", "202.9", "256.0"]
    assert rows["np"] == rows["ffx"] == ["9.9", "44.9", "187.9"]
    assert "all of which sealing uses" in out
    assert "below" not in err, "whoever only seals is not warned of transforms"


def test_whoever_made_a_key_is_told_what_it_is_for_and_what_comes_next(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "it seals models" in err
    assert "next: mlguard export model.onnx --key acme --out acme.mlgb" in err


def test_a_small_key_space_is_warned_of_where_its_block_size_is_asked_for(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", block_size=4, keystore=store, identity=identity)
    err = capsys.readouterr().err
    assert "below 80 bits a thief may try all transforms: np M=4, ffx M=4" in err


def test_a_block_size_shows_its_own_key_space_only(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", block_size=8, keystore=store, identity=identity)
    out, err = capsys.readouterr()
    assert "M=8" in out
    assert "M=4" not in out
    assert "below" not in err


def test_a_second_key_goes_into_the_same_store(store: Path, identity: Path) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    keys.keygen("other", keystore=store, identity=identity)
    names = Keystore.open(store, Identity.read(identity)).names()
    assert names == ("acme", "other")


def test_a_key_that_is_there_is_refused_and_kept(store: Path, identity: Path) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    before = store.read_bytes()
    with pytest.raises(KeyExists, match="already a key 'acme'"):
        keys.keygen("acme", keystore=store, identity=identity)
    assert store.read_bytes() == before


def test_a_bad_name_is_refused_before_anything_is_made(
    store: Path, identity: Path
) -> None:
    with pytest.raises(InvalidName, match="not a valid name"):
        keys.keygen("a/b", keystore=store, identity=identity)
    assert not store.exists()
    assert not identity.exists()


def test_without_a_source_and_a_terminal_nothing_is_made(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(PassphraseMissing, match="no terminal") as refusal:
        keys.keygen("acme", keystore=store)
    assert "--passphrase-file" in refusal.value.hint
    assert not store.exists()


def test_an_existing_store_does_not_get_a_new_identity(
    store: Path, identity: Path, tmp_path: Path
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    with pytest.raises(IdentityError, match="no file at") as refusal:
        keys.keygen("other", keystore=store, identity=tmp_path / "mistyped")
    assert "a new identity would not open it" in refusal.value.hint
    assert not (tmp_path / "mistyped").exists()


def test_a_passphrase_file_makes_and_opens_a_store(store: Path, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file in (right, wrong):
        file.touch(0o600)
        file.write_text(f"{file.name}\n")
    keys.keygen("acme", keystore=store, passphrase_file=right)
    with pytest.raises(NoSlotOpens, match="passphrase does not open"):
        keys.keygen("other", keystore=store, passphrase_file=wrong)


def test_list_shows_names_and_key_ids(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    line = capsys.readouterr().out.splitlines()[0]
    key_listing.list_keys(keystore=store, identity=identity)
    assert capsys.readouterr().out.split()[:3] == [*line.split()[:2], "1"]


def test_show_tells_everything_but_the_secret(
    store: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    capsys.readouterr()
    key_listing.show("acme", keystore=store, identity=identity)
    out = capsys.readouterr().out
    secret = Keystore.open(store, Identity.read(identity)).get("acme")
    assert ModelKey(secret).key_id in out
    assert "primary" in out
    assert secret.hex() not in out


def test_show_of_an_unknown_key_names_the_known_ones(
    store: Path, identity: Path
) -> None:
    keys.keygen("acme", keystore=store, identity=identity)
    with pytest.raises(KeyNotFound, match="known keys: acme") as refusal:
        key_listing.show("other", keystore=store, identity=identity)
    assert "`mlguard keys list`" in refusal.value.hint
    with pytest.raises(KeyNotFound, match="no key 'acmee'; known keys: acme") as near:
        key_listing.show("acmee", keystore=store, identity=identity)
    assert near.value.hint == "did you mean acme?"
