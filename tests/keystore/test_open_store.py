"""Opening a keystore: what opens it, what it gives, and every refusal on the way."""

import os
from pathlib import Path

import pytest

from keystore import (
    Identity,
    KeyExists,
    KeyNotFound,
    Keystore,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    MalformedKeystore,
    NoSlotOpens,
    Passphrase,
    PassphraseRefused,
    RolledBackKeystore,
    WorkFactor,
    WorkFactorTooHigh,
)

SECRET = b"\x07" * 32
LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)


def test_the_identity_gives_the_secret_back(path: Path, identity: Identity) -> None:
    assert Keystore.open(path, identity).get("unet") == SECRET


def test_the_passphrase_gives_the_secret_back(
    tmp_path: Path, passphrase: Passphrase
) -> None:
    path = tmp_path / "new folder" / "keystore.mlgk"
    Keystore.create(path, passphrase).add("unet", SECRET)
    assert Keystore.open(path, Passphrase("right")).get("unet") == SECRET


def test_composed_and_decomposed_letters_are_the_same_passphrase(
    tmp_path: Path,
) -> None:
    Keystore.create(tmp_path / "k", Passphrase("caf\u00e9", work=LIGHT))
    assert Keystore.open(tmp_path / "k", Passphrase("cafe\u0301")).names() == ()


def test_a_wrong_passphrase_is_refused(tmp_path: Path, passphrase: Passphrase) -> None:
    Keystore.create(tmp_path / "k", passphrase)
    with pytest.raises(NoSlotOpens, match="k: the passphrase does not open it"):
        Keystore.open(tmp_path / "k", Passphrase("wrong"))


def test_another_identity_is_refused(path: Path) -> None:
    with pytest.raises(NoSlotOpens, match=r"identity [0-9a-f]{16} does not open it"):
        Keystore.open(path, Identity.generate())


def test_a_store_without_a_passphrase_slot_says_so(path: Path) -> None:
    with pytest.raises(NoSlotOpens, match="no passphrase slot, only identity"):
        Keystore.open(path, Passphrase("right"))


def test_any_slot_opens_the_store(
    path: Path, identity: Identity, passphrase: Passphrase
) -> None:
    Keystore.open(path, identity).add_slot(passphrase)
    assert Keystore.open(path, passphrase).get("unet") == SECRET
    assert Keystore.open(path, identity).get("unet") == SECRET


@pytest.mark.parametrize("text", ["", "x" * 1025, "\ud800"], ids=ascii)
def test_what_cannot_be_a_passphrase_is_refused(text: str) -> None:
    with pytest.raises(PassphraseRefused, match="passphrase is"):
        Passphrase(text)


def test_a_missing_store_is_refused(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(KeystoreNotFound, match=r"there is no keystore at .*nothing"):
        Keystore.open(tmp_path / "nothing", identity)


def test_a_store_is_never_created_over_something(
    path: Path, identity: Identity
) -> None:
    before = path.read_bytes()
    with pytest.raises(KeystoreExists, match="already exists"):
        Keystore.create(path, identity)
    assert path.read_bytes() == before


def test_a_symbolic_link_is_refused(path: Path, identity: Identity) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(KeystoreNotReadable, match="is a symbolic link"):
        Keystore.open(link, identity)


def test_a_dangling_link_is_not_written_through(
    tmp_path: Path, identity: Identity
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreExists, match="already exists"):
        Keystore.create(tmp_path / "link", identity)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_is_refused(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(KeystoreNotReadable, match=r"is not a regular file|directory"):
        Keystore.open(tmp_path, identity)


def test_the_root_folder_is_refused(identity: Identity) -> None:
    with pytest.raises(KeystoreNotReadable, match="/ is not a regular file"):
        Keystore.open(Path("/"), identity)


def test_a_named_pipe_is_refused_without_waiting(
    tmp_path: Path, identity: Identity
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeystoreNotReadable, match="is not a regular file"):
        Keystore.open(tmp_path / "pipe", identity)


def test_some_other_file_is_refused(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / "k").write_text("hello")
    with pytest.raises(MalformedKeystore, match="this is not a keystore"):
        Keystore.open(tmp_path / "k", identity)


def test_an_unknown_key_is_refused_and_the_known_ones_are_named(
    path: Path, identity: Identity
) -> None:
    with pytest.raises(KeyNotFound, match="no key 'unit'; known keys: unet"):
        Keystore.open(path, identity).get("unit")


def test_a_key_is_never_overwritten(path: Path, identity: Identity) -> None:
    store = Keystore.open(path, identity)
    with pytest.raises(KeyExists, match="already a key 'unet'"):
        store.add("unet", b"\x08" * 32)
    assert Keystore.open(path, identity).get("unet") == SECRET


def test_a_new_work_factor_has_the_bounds_of_the_reader() -> None:
    with pytest.raises(WorkFactorTooHigh, match="iterations is 17, limit is 16"):
        WorkFactor(iterations=17)
    with pytest.raises(ValueError, match="below the minimum"):
        WorkFactor(memory_kib=1024)


def test_a_store_that_went_back_under_our_hands_is_refused(
    path: Path, identity: Identity
) -> None:
    older = path.read_bytes()
    store = Keystore.open(path, identity)
    store.add("second", SECRET)
    path.write_bytes(older)
    with pytest.raises(RolledBackKeystore, match="from generation 3 to 2"):
        store.add("third", SECRET)


def test_a_store_that_was_replaced_under_our_hands_is_refused(
    path: Path, identity: Identity
) -> None:
    store = Keystore.open(path, identity)
    path.unlink()
    Keystore.create(path, identity)
    with pytest.raises(RolledBackKeystore, match="another keystore"):
        store.add("third", SECRET)


def test_a_closed_store_gives_nothing(path: Path, identity: Identity) -> None:
    with Keystore.open(path, identity) as store:
        pass
    with pytest.raises(ValueError, match="closed"):
        store.get("unet")
