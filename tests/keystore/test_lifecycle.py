"""What may happen to a key, and what is refused: nothing is lost by accident."""

from pathlib import Path

import pytest

from keystore import (
    Identity,
    InvalidName,
    KeyInUse,
    KeyNotFound,
    KeyNotUsable,
    Keystore,
    MemoryStorage,
    NoSlotOpens,
    NotAllowed,
    Passphrase,
    SlotError,
    WorkFactor,
)

SECRET, OTHER = b"\x07" * 32, b"\x08" * 32
LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)


@pytest.fixture
def store(identity: Identity) -> Keystore:
    """A keystore whose "unet" has two versions, the first primary."""
    store = Keystore.create(MemoryStorage(), identity)
    store.add("unet", SECRET)
    store.add_version("unet", OTHER)
    return store


def test_a_promoted_version_is_the_one_that_is_used(store: Keystore) -> None:
    store.promote("unet", 2)
    assert store.get("unet") == OTHER
    assert store.get("unet", 1) == SECRET


def test_a_disabled_version_cannot_be_promoted(store: Keystore) -> None:
    store.disable("unet", 2)
    with pytest.raises(KeyNotUsable, match="version 2 of unet is disabled"):
        store.promote("unet", 2)


def test_a_disabled_version_gives_nothing_until_it_is_enabled(store: Keystore) -> None:
    store.disable("unet", 1)
    with pytest.raises(KeyNotUsable, match="version 1 of unet is disabled"):
        store.get("unet")
    store.enable("unet", 1)
    assert store.get("unet") == SECRET


def test_a_compromised_version_is_enabled_only_by_force(store: Keystore) -> None:
    store.disable("unet", 1, compromised=True)
    with pytest.raises(NotAllowed, match="was marked compromised"):
        store.enable("unet", 1)
    entry = store.enable("unet", 1, force=True)
    assert not entry.version(1).compromised


def test_disabling_again_does_not_forget_that_it_is_compromised(
    store: Keystore,
) -> None:
    store.disable("unet", 1, compromised=True)
    assert store.disable("unet", 1).version(1).compromised


def test_destroying_is_off_until_the_policy_allows_it(store: Keystore) -> None:
    store.disable("unet", 1)
    with pytest.raises(NotAllowed, match="does not allow deletion") as refusal:
        store.destroy("unet", 1, force=True)
    assert "mlguard keys allow unet --deletion" in refusal.value.hint


def test_an_enabled_version_is_not_destroyed(store: Keystore) -> None:
    store.allow("unet", deletion=True)
    with pytest.raises(NotAllowed, match="version 1 of unet is enabled"):
        store.destroy("unet", 1, force=True)


def test_a_version_that_something_needs_is_destroyed_only_by_force(
    store: Keystore,
) -> None:
    store.allow("unet", deletion=True)
    store.add_use("unet", "run", "runs/a")
    store.add_use("unet", "bundle", "b.mlgb")
    store.add_use("unet", "run", "runs/other", version=2)
    store.disable("unet", 1)
    with pytest.raises(KeyInUse, match=r"needed by 2: bundle b\.mlgb, run runs/a"):
        store.destroy("unet", 1)
    entry = store.destroy("unet", 1, force=True)
    assert entry.version(1).state == "destroyed"


def test_a_destroyed_version_is_gone_for_good_and_keeps_its_place(
    store: Keystore,
) -> None:
    store.allow("unet", deletion=True)
    store.disable("unet", 1)
    store.destroy("unet", 1)
    for verb in (store.get, store.promote, store.disable, store.enable, store.destroy):
        with pytest.raises(KeyNotUsable, match="version 1 of unet is destroyed"):
            verb("unet", 1)
    assert store.add_version("unet", SECRET) == 3


def test_the_state_before_a_destroy_is_erased_too(
    path: Path, identity: Identity
) -> None:
    store = Keystore.open(path, identity)
    store.add_version("unet", OTHER)
    store.allow("unet", deletion=True)
    store.disable("unet", 1)
    assert path.with_name("keystore.mlgk.bak").exists()
    store.destroy("unet", 1)
    assert not path.with_name("keystore.mlgk.bak").exists()


def test_the_same_use_is_registered_once(store: Keystore) -> None:
    store.add_use("unet", "run", "runs/a")
    before = store.generation
    store.add_use("unet", "run", "runs/a")
    assert store.generation == before
    assert len(store.info("unet").uses) == 1


def test_a_use_that_is_gone_can_be_removed(store: Keystore) -> None:
    store.add_use("unet", "run", "runs/a")
    assert store.remove_use("unet", "runs/a").uses == ()
    with pytest.raises(InvalidName, match="has no use 'runs/a'"):
        store.remove_use("unet", "runs/a")


def test_a_use_of_an_unknown_version_is_refused(store: Keystore) -> None:
    with pytest.raises(KeyNotFound, match="no version 9"):
        store.add_use("unet", "run", "runs/a", version=9)


@pytest.mark.parametrize(
    "reference", ["", "a\nb", "x" * 501], ids=["no", "two", "long"]
)
def test_what_cannot_be_written_down_as_a_use_is_refused(
    store: Keystore, reference: str
) -> None:
    with pytest.raises(InvalidName, match="is not a valid use"):
        store.add_use("unet", "run", reference)


def test_a_note_is_one_printable_line(store: Keystore) -> None:
    assert store.set_note("unet", "für die Demo").note == "für die Demo"
    for text in ("two\nlines", "x" * 1001):
        with pytest.raises(InvalidName, match="printable line"):
            store.set_note("unet", text)


def test_export_is_off_until_the_policy_allows_it(store: Keystore) -> None:
    with pytest.raises(NotAllowed, match="does not allow export"):
        store.export("unet")
    store.allow("unet", exportable=True)
    assert store.export("unet") == SECRET


def test_public_ids_name_disabled_versions_and_not_destroyed_ones(
    store: Keystore,
) -> None:
    store.allow("unet", deletion=True)
    store.disable("unet", 1)
    assert store.public_ids("unet", lambda secret: secret.hex()[:2]) == {
        1: "07",
        2: "08",
    }
    store.destroy("unet", 1)
    assert store.public_ids("unet", lambda secret: secret.hex()[:2]) == {2: "08"}
    both = store.info_and_ids("unet", lambda secret: secret.hex()[:2])
    assert both == (store.info("unet"), {2: "08"})


def test_a_changed_passphrase_opens_and_the_old_one_does_not(
    tmp_path: Path, passphrase: Passphrase
) -> None:
    path = tmp_path / "k"
    store = Keystore.create(path, passphrase)
    store.replace_slot(Passphrase("new", work=LIGHT))
    assert Keystore.open(path, Passphrase("new")).names() == ()
    with pytest.raises(NoSlotOpens, match="does not open"):
        Keystore.open(path, Passphrase("right"))
    assert not (tmp_path / "k.bak").exists()


def test_a_removed_slot_opens_nothing(
    path: Path, identity: Identity, passphrase: Passphrase
) -> None:
    store = Keystore.open(path, identity)
    store.add_slot(passphrase, label="me")
    store.remove_slot("identity")
    with pytest.raises(NoSlotOpens, match="only passphrase"):
        Keystore.open(path, identity)


def test_the_last_slot_cannot_be_removed(store: Keystore) -> None:
    with pytest.raises(SlotError, match="is the only one"):
        store.remove_slot("identity")


def test_an_unknown_slot_is_refused_and_the_known_ones_are_named(
    store: Keystore,
) -> None:
    with pytest.raises(SlotError, match="no slot 'me'; known slots: identity"):
        store.remove_slot("me")
