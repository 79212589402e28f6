"""A store of format 1 opens, becomes one of format 2, and loses nobody on the way."""

from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    MemoryStorage,
    NoSlotOpens,
    Passphrase,
    Pins,
    RolledBackKeystore,
    SlotError,
    WorkFactor,
    backup,
    restore,
)
from tests.keystore.test_vectors import Vector

VECTORS = Path(__file__).parents[1] / "vectors" / "keystore"
LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)
MAGICS = {1: b"mlguard keystore 1\n", 2: b"mlguard keystore 2\n"}
OLD = Vector.load(VECTORS / "two-slots-identity.test")
IDENTITY = Identity.parse(OLD.fields["identity"][0])
PASSPHRASE = Passphrase("right", work=LIGHT)
SECRET = b"\x07" * 32


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of format 1 with two slots, "ci" and "me", that holds "acme"."""
    path = tmp_path / "keystore.mlgk"
    path.write_bytes(OLD.data)
    return path


def version_of(path: Path) -> int:
    start = path.read_bytes()[: len(MAGICS[1])]
    return next(number for number, magic in MAGICS.items() if magic == start)


def labels(store: Keystore) -> list[str]:
    return sorted(slot.label for slot in store.slots())


def unrenewed(store: Keystore) -> list[str]:
    return [slot.label for slot in store.slots() if slot.unrenewed]


def test_reading_upgrades_nothing(old: Path) -> None:
    assert Keystore.open(old, IDENTITY).names() == ("acme",)
    assert version_of(old) == 1


@pytest.mark.parametrize("opener", [IDENTITY, PASSPHRASE], ids=str)
def test_the_first_write_upgrades_after_a_word(
    old: Path, opener: Identity | Passphrase
) -> None:
    said: list[str] = []
    store = Keystore.open(old, opener, say=said.append)
    assert said == []
    store.add("second", SECRET)
    assert version_of(old) == 2
    (words,) = said
    assert "format 1" in words
    assert "is now upgraded to format 2" in words
    assert [each.op for each in store.log()] == ["upgrade", "add"]


@pytest.mark.parametrize("first", [IDENTITY, PASSPHRASE], ids=str)
@pytest.mark.parametrize("then", [IDENTITY, PASSPHRASE], ids=str)
def test_everybody_still_opens_it(
    old: Path, first: Identity | Passphrase, then: Identity | Passphrase
) -> None:
    before = Keystore.open(old, IDENTITY).get("acme")
    Keystore.open(old, first).add("second", SECRET)
    store = Keystore.open(old, then)
    assert (store.get("acme"), store.get("second")) == (before, SECRET)
    assert labels(store) == ["ci", "me"]


def test_each_owner_renews_his_slot_by_his_first_write(old: Path) -> None:
    store = Keystore.open(old, IDENTITY)
    store.add("second", SECRET)
    assert unrenewed(store) == ["me"]
    store = Keystore.open(old, PASSPHRASE)
    store.add("third", SECRET)
    assert unrenewed(store) == []
    assert Keystore.open(old, IDENTITY).names() == ("acme", "second", "third")


def test_renewing_is_a_write_of_its_own(old: Path) -> None:
    Keystore.open(old, IDENTITY).renew_slot()
    store = Keystore.open(old, PASSPHRASE)
    store.renew_slot()
    assert unrenewed(store) == []
    generation = store.generation
    store.renew_slot()
    assert store.generation == generation


def test_nobody_is_removed_while_a_slot_that_stays_is_old(old: Path) -> None:
    """Through it, who is removed would still get the new store key."""
    store = Keystore.open(old, IDENTITY)
    store.add_slot(Identity.generate(), label="maria")
    with pytest.raises(SlotError, match="not renewed yet: me") as refusal:
        store.remove_slot("maria")
    assert "slots renew" in refusal.value.hint
    with pytest.raises(SlotError, match="not renewed yet: me"):
        store.replace_slot(Identity.generate())
    Keystore.open(old, PASSPHRASE).renew_slot()
    store.remove_slot("maria")
    assert labels(store) == ["ci", "me"]


def test_an_old_slot_can_go_with_the_one_that_is_removed(old: Path) -> None:
    store = Keystore.open(old, IDENTITY)
    store.add_slot(Identity.generate(), label="maria")
    store.remove_slot("maria", "me")
    assert labels(store) == ["ci"]
    with pytest.raises(NoSlotOpens, match="no passphrase slot"):
        Keystore.open(old, PASSPHRASE)


def test_no_copy_of_format_1_is_left_beside(old: Path) -> None:
    Keystore.open(old, IDENTITY).add("second", SECRET)
    assert not old.with_name("keystore.mlgk.bak").exists()


def test_a_store_of_format_1_where_format_2_was_seen_is_noticed(
    old: Path, tmp_path: Path
) -> None:
    pins = Pins(tmp_path / "pins")
    Keystore.open(old, IDENTITY, pins=pins).add("second", SECRET)
    largest = Vector.load(VECTORS / "largest-generation.test")
    old.write_bytes(largest.data)  # the same store, of a later generation
    with pytest.raises(RolledBackKeystore, match="a different history"):
        Keystore.open(old, IDENTITY, pins=pins)


def test_a_pin_of_format_1_is_no_alarm_after_the_upgrade(
    old: Path, tmp_path: Path
) -> None:
    pins = Pins(tmp_path / "pins")
    Keystore.open(old, IDENTITY, pins=pins)
    Keystore.open(old, PASSPHRASE).add("second", SECRET)
    assert Keystore.open(old, IDENTITY, pins=pins).pinned


def test_a_backup_of_format_1_is_restored_as_format_2(
    old: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(old.read_bytes())
    Keystore.open(old, IDENTITY).add("second", SECRET)
    restore(old, copy, IDENTITY)
    store = Keystore.open(old, PASSPHRASE)
    assert store.names() == ("acme",)
    assert version_of(old) == 2
    assert [each.op for each in store.log()] == ["upgrade", "add", "restore"]


def test_two_handles_on_an_old_store_do_not_disturb_each_other() -> None:
    storage = MemoryStorage(OLD.data)
    one, other = (Keystore.open(storage, each) for each in (IDENTITY, PASSPHRASE))
    one.add("one", SECRET)
    other.add("other", SECRET)
    one.add("again", SECRET)
    assert Keystore.open(storage, PASSPHRASE).names() == (
        "acme",
        "again",
        "one",
        "other",
    )
    assert [each.op for each in one.log()] == ["upgrade", "add", "add", "add"]


def test_a_backup_made_before_a_removal_brings_nobody_back(tmp_path: Path) -> None:
    path, leaver = tmp_path / "keystore", Identity.generate()
    store = Keystore.create(path, IDENTITY)
    store.add_slot(leaver, label="leaver")
    backup(store, tmp_path / "copy")
    store.remove_slot("leaver")
    store.add("later", SECRET)
    restore(path, tmp_path / "copy", IDENTITY)
    with pytest.raises(NoSlotOpens, match="does not open it"):
        Keystore.open(path, leaver)
    store = Keystore.open(path, IDENTITY)
    assert store.names() == ()
    assert store.log()[-1].op == "restore"


def test_a_fork_in_the_place_does_not_say_who_opens_a_restored_store(
    tmp_path: Path,
) -> None:
    """Who was removed put a later history of his own there; it is not believed."""
    path, leaver = tmp_path / "keystore", Identity.generate()
    pins, said = Pins(tmp_path / "pins"), list[str]()
    store = Keystore.create(path, IDENTITY, pins=pins)
    store.add_slot(leaver, label="leaver")
    old = path.read_bytes()
    store.remove_slot("leaver")
    backup(store, tmp_path / "copy")
    thief = MemoryStorage(old)
    his = Keystore.open(thief, leaver)
    his.add_slot(Identity(bytes(32)), label="planted")
    for number in range(4):
        his.add(f"k-{number}", SECRET)
    path.write_bytes(thief.read())
    restore(path, tmp_path / "copy", IDENTITY, pins=pins, say=said.append)
    assert labels(Keystore.open(path, IDENTITY, pins=pins)) == ["identity"]
    for stranger in (leaver, Identity(bytes(32))):
        with pytest.raises(NoSlotOpens, match="does not open it"):
            Keystore.open(path, stranger)
    assert said == []


def test_the_passphrase_of_an_old_store_is_changed_with_the_first_write() -> None:
    storage = MemoryStorage(Vector.load(VECTORS / "passphrase.test").data)
    store = Keystore.open(storage, PASSPHRASE)
    store.replace_slot(Passphrase("another", work=LIGHT))
    store.add("second", SECRET)
    with pytest.raises(NoSlotOpens, match="does not open it"):
        Keystore.open(storage, PASSPHRASE)
    again = Keystore.open(storage, Passphrase("another"))
    assert again.names() == ("acme", "second")
    assert [each.op for each in again.log()] == ["upgrade", "slot-replace", "add"]


def test_a_backup_that_brings_somebody_back_is_said(tmp_path: Path) -> None:
    """The store in the place is lost, so only the backup knows who is a member."""
    path, leaver = tmp_path / "keystore", Identity.generate()
    pins, said = Pins(tmp_path / "pins"), list[str]()
    store = Keystore.create(path, IDENTITY, pins=pins)
    store.add_slot(leaver, label="leaver")
    backup(store, tmp_path / "copy")
    store.remove_slot("leaver")
    path.write_bytes(b"")
    restore(path, tmp_path / "copy", IDENTITY, pins=pins, say=said.append)
    assert "members removed since then can open the keystore again" in said[0]
    store = Keystore.open(path, leaver)
    assert store.check()[-1].op == "restore"
