"""What a keystore holds: names, versions, slots; and that nothing shows a secret."""

import pickle
from pathlib import Path

import pytest

from keystore import (
    Identity,
    InvalidName,
    KeyNotFound,
    Keystore,
    Passphrase,
    SlotError,
)

SECRET = b"\x07" * 32


@pytest.fixture
def store(path: Path, identity: Identity) -> Keystore:
    return Keystore.open(path, identity)


def test_names_come_in_order(store: Keystore) -> None:
    for name in ("zebra", "Acme", "a.b_c-d"):
        store.add(name, SECRET)
    assert store.names() == ("Acme", "a.b_c-d", "unet", "zebra")


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a b", "a/b", "a@2", "é", "a\n", "x" * 65], ids=ascii
)
def test_what_cannot_be_a_name_is_refused(store: Keystore, name: str) -> None:
    with pytest.raises(InvalidName, match="is not a valid name for a key"):
        store.add(name, SECRET)
    assert store.names() == ("unet",)


@pytest.mark.parametrize("secret", [b"", b"x" * 4097, "text"], ids=["0", "4097", "str"])
def test_what_cannot_be_a_secret_is_a_bug_of_the_caller(
    store: Keystore, secret: bytes
) -> None:
    with pytest.raises(ValueError, match="1 to 4096 bytes"):
        store.add("other", secret)


def test_a_new_version_does_not_become_primary_by_itself(store: Keystore) -> None:
    assert store.add_version("unet", b"\x08" * 32) == 2
    assert store.get("unet") == SECRET
    assert store.get("unet", 2) == b"\x08" * 32


def test_an_unknown_version_is_refused_and_the_known_ones_are_named(
    store: Keystore,
) -> None:
    store.add_version("unet", SECRET)
    with pytest.raises(KeyNotFound, match="unet has no version 3; it has 1, 2"):
        store.get("unet", 3)


def test_a_version_of_an_unknown_key_is_refused(store: Keystore) -> None:
    with pytest.raises(KeyNotFound, match="no key 'other'"):
        store.add_version("other", SECRET)


def test_info_tells_everything_but_the_secret(store: Keystore) -> None:
    entry = store.info("unet")
    assert (entry.name, entry.purpose, entry.primary) == ("unet", "model", 1)
    assert [version.secret for version in entry.versions] == [None]
    assert not entry.policy.exportable
    assert not entry.policy.deletion_allowed


def test_every_write_adds_one_to_the_generation(store: Keystore) -> None:
    before = store.generation
    store.add("other", SECRET)
    assert store.generation == before + 1


def test_two_open_handles_do_not_lose_each_others_keys(
    path: Path, identity: Identity
) -> None:
    one, other = Keystore.open(path, identity), Keystore.open(path, identity)
    one.add("from-one", SECRET)
    other.add("from-other", SECRET)
    assert Keystore.open(path, identity).names() == ("from-one", "from-other", "unet")


def test_a_slot_label_is_used_once(store: Keystore, passphrase: Passphrase) -> None:
    store.add_slot(passphrase, label="me")
    with pytest.raises(SlotError, match="already a slot 'me'"):
        store.add_slot(passphrase, label="me")


def test_there_are_at_most_sixteen_slots(store: Keystore) -> None:
    for number in range(15):
        store.add_slot(Identity.generate(), label=f"ci-{number}")
    with pytest.raises(SlotError, match="at most 16 slots"):
        store.add_slot(Identity.generate(), label="one-more")


def test_sealing_the_same_thing_twice_gives_other_bytes(
    path: Path, tmp_path: Path, identity: Identity
) -> None:
    twin = tmp_path / "twin"
    Keystore.create(twin, identity).add("unet", SECRET)
    assert path.read_bytes()[-64:] != twin.read_bytes()[-64:]


def test_printing_shows_no_secret(
    store: Keystore, identity: Identity, passphrase: Passphrase
) -> None:
    text = identity.reveal()
    things = [store, identity, passphrase, store.slots(), store.info("unet")]
    shown = "".join(f"{thing} {thing!r}" for thing in [*things, store._opened.state])
    assert text[-40:] not in shown
    assert "right" not in shown
    assert SECRET.hex() not in shown
    assert repr(SECRET)[2:-1] not in shown


def test_things_with_secrets_are_never_pickled(
    store: Keystore, identity: Identity, passphrase: Passphrase
) -> None:
    for thing in (store, identity, passphrase):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(thing)


def test_the_file_shows_no_name_and_no_secret(path: Path) -> None:
    data = path.read_bytes() + path.with_name("keystore.mlgk.bak").read_bytes()
    assert b"unet" not in data
    assert SECRET not in data
    assert SECRET.hex().encode() not in data
