"""Pins, backups and restores: an older store is noticed, unless it is meant."""

import hashlib
from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    KeystoreExists,
    KeystoreNotFound,
    MalformedKeystore,
    NoSlotOpens,
    Pins,
    RolledBackKeystore,
    TamperedKeystore,
    backup,
    restore,
)

SECRET = b"\x07" * 32


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "state" / "pins")


@pytest.fixture
def copy(path: Path, identity: Identity, tmp_path: Path) -> Path:
    """A backup with "unet"; the store itself has gone on to "second"."""
    store = Keystore.open(path, identity)
    backup(store, tmp_path / "copy")
    store.add("second", SECRET)
    return tmp_path / "copy"


def test_an_older_copy_put_back_is_noticed(
    path: Path, identity: Identity, pins: Pins
) -> None:
    older = path.read_bytes()
    Keystore.open(path, identity, pins=pins).add("second", SECRET)
    path.write_bytes(older)
    with pytest.raises(RolledBackKeystore, match="from generation 3 to 2") as refusal:
        Keystore.open(path, identity, pins=pins)
    assert "mlguard keys accept" in refusal.value.hint


def test_without_pins_it_is_not_noticed(path: Path, identity: Identity) -> None:
    """The twin of the test above: nothing in the file itself could tell."""
    older = path.read_bytes()
    Keystore.open(path, identity).add("second", SECRET)
    path.write_bytes(older)
    assert Keystore.open(path, identity).names() == ("unet",)


def test_an_older_copy_can_be_accepted_knowingly(
    path: Path, identity: Identity, pins: Pins
) -> None:
    older = path.read_bytes()
    Keystore.open(path, identity, pins=pins).add("second", SECRET)
    path.write_bytes(older)
    Keystore.open(path, identity, pins=pins, accept=True)
    assert Keystore.open(path, identity, pins=pins).names() == ("unet",)


def test_another_store_in_its_place_is_noticed(
    path: Path, identity: Identity, pins: Pins
) -> None:
    Keystore.open(path, identity, pins=pins)
    path.unlink()
    Keystore.create(path, identity)
    with pytest.raises(RolledBackKeystore, match="another keystore was put in its"):
        Keystore.open(path, identity, pins=pins)


def test_another_history_of_the_same_length_is_noticed(
    path: Path, identity: Identity, pins: Pins
) -> None:
    older = path.read_bytes()
    Keystore.open(path, identity, pins=pins).add("second", SECRET)
    path.write_bytes(older)
    Keystore.open(path, identity).add("forked", SECRET)
    with pytest.raises(RolledBackKeystore, match="generation 3 is not the one"):
        Keystore.open(path, identity, pins=pins)


def test_what_others_wrote_meanwhile_is_no_alarm(
    path: Path, identity: Identity, pins: Pins
) -> None:
    Keystore.open(path, identity, pins=pins)
    Keystore.open(path, identity).add("second", SECRET)
    assert Keystore.open(path, identity, pins=pins).pinned


def test_a_place_where_nothing_can_be_pinned_is_said(
    path: Path, identity: Identity, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store = Keystore.open(path, identity, pins=Pins(tmp_path / "file" / "pins"))
    assert not store.pinned


def test_a_damaged_pin_is_noticed(path: Path, identity: Identity, pins: Pins) -> None:
    Keystore.open(path, identity, pins=pins)
    (pin,) = (path.parent / "state" / "pins").iterdir()
    pin.write_bytes(b"{}")
    with pytest.raises(RolledBackKeystore, match="the pin has a field"):
        Keystore.open(path, identity, pins=pins)


def test_a_pin_holds_no_secret_and_is_private(
    path: Path, identity: Identity, pins: Pins
) -> None:
    Keystore.open(path, identity, pins=pins)
    (pin,) = (path.parent / "state" / "pins").iterdir()
    assert pin.stat().st_mode & 0o777 == 0o600
    assert b"unet" not in pin.read_bytes()


def test_a_backup_is_the_sealed_file_and_its_digest(
    path: Path, identity: Identity, tmp_path: Path
) -> None:
    digest = backup(Keystore.open(path, identity), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_a_backup_overwrites_nothing(
    path: Path, identity: Identity, copy: Path
) -> None:
    with pytest.raises(KeystoreExists, match="copy already exists"):
        backup(Keystore.open(path, identity), copy)


def test_a_restored_store_goes_forward_and_is_no_alarm(
    path: Path, identity: Identity, copy: Path, pins: Pins
) -> None:
    Keystore.open(path, identity, pins=pins)
    assert restore(path, copy, identity, pins=pins) == (3, 5)
    store = Keystore.open(path, identity, pins=pins)
    assert store.names() == ("unet",)
    assert [each.op for each in store.log()][-1] == "restore"


def test_what_was_there_is_kept_beside(
    path: Path, identity: Identity, copy: Path
) -> None:
    before = path.read_bytes()
    restore(path, copy, identity)
    (kept,) = path.parent.glob("keystore.mlgk.replaced-*")
    assert kept.read_bytes() == before


def test_what_a_restore_set_aside_does_not_outlive_a_removed_slot(
    path: Path, identity: Identity, copy: Path
) -> None:
    restore(path, copy, identity)
    store = Keystore.open(path, identity)
    store.add_slot(Identity.generate(), label="leaver")
    store.remove_slot("leaver")
    assert list(path.parent.glob("keystore.mlgk.replaced-*")) == []
    assert not path.with_name("keystore.mlgk.bak").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_store_is_restored(
    path: Path, identity: Identity, copy: Path, pins: Pins, damage: str
) -> None:
    Keystore.open(path, identity, pins=pins)
    content = {"cut": path.read_bytes()[:-9], "empty": b""}.get(damage)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert restore(path, copy, identity, pins=pins) == (3, 5)
    assert Keystore.open(path, identity, pins=pins).names() == ("unet",)


def test_the_state_before_the_last_write_can_be_restored(
    path: Path, identity: Identity
) -> None:
    Keystore.open(path, identity).add("second", SECRET)
    path.write_bytes(b"")
    restore(path, path.with_name("keystore.mlgk.bak"), identity)
    assert Keystore.open(path, identity).names() == ("unet",)


def test_a_bad_backup_is_refused_before_anything_is_replaced(
    path: Path, identity: Identity, copy: Path
) -> None:
    before, good = path.read_bytes(), copy.read_bytes()
    copy.write_bytes(good[:-1])
    with pytest.raises(MalformedKeystore, match="copy: the checksum"):
        restore(path, copy, identity)
    copy.write_bytes(good)
    with pytest.raises(NoSlotOpens, match="copy: identity"):
        restore(path, copy, Identity.generate())
    with pytest.raises(KeystoreNotFound, match="no keystore at"):
        restore(path, copy.with_name("nothing"), identity)
    assert path.read_bytes() == before


def test_a_backup_of_another_store_is_refused(
    path: Path, identity: Identity, tmp_path: Path
) -> None:
    other = Keystore.create(tmp_path / "other", identity)
    backup(other, tmp_path / "copy")
    with pytest.raises(KeystoreExists, match="a different keystore from the backup"):
        restore(path, tmp_path / "copy", identity)


def test_check_reads_every_entry(path: Path, identity: Identity) -> None:
    assert len(Keystore.open(path, identity).check()) == 2


def test_check_notices_a_tampered_log(path: Path, identity: Identity) -> None:
    log = path.with_name("keystore.mlgk.log")
    log.write_bytes(log.read_bytes().replace(b'"op":"add"', b'"op":"new"'))
    with pytest.raises(TamperedKeystore, match="record 2 of the log was altered"):
        Keystore.open(path, identity).check()
