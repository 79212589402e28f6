"""Access that was taken away: tried with an old copy and what opened it then."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keystore import (
    Identity,
    Keystore,
    KeystoreError,
    MemoryStorage,
    NoSlotOpens,
    Passphrase,
    Pins,
    Recipient,
    RolledBackKeystore,
    TamperedKeystore,
    TamperedLog,
    WorkFactor,
)
from keystore.chain import next_link
from keystore.draft import Draft
from keystore.header import Header, put_together, take_apart
from keystore.members import (
    Opened,
    find_member,
    key_id_of,
    new_slot,
    open_slot,
    with_store_key,
)
from keystore.opened import open_state, seal_state
from keystore.payload import Contents
from keystore.slots import Opener, in_order

LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)
SECRET = b"\x07" * 32
OWNER = Identity(bytes(range(32)))
LEAVER = Passphrase("what the leaver knew", work=LIGHT)


@pytest.fixture
def storage() -> MemoryStorage:
    """A store of two members, the owner and somebody who will leave."""
    storage = MemoryStorage()
    store = Keystore.create(storage, OWNER, label="owner")
    store.add("unet", SECRET)
    store.add_slot(LEAVER, label="leaver")
    return storage


def loot(data: bytes, opener: Opener = LEAVER) -> Opened:
    """All that a slot of a copy gives to who opens it."""
    header = take_apart(data).header
    member = find_member(header.slots, opener, header.store_id)
    return open_slot(member, header.slots, header.store_id, header.key_id)


def opens_by(stolen: Opened, data: bytes) -> bool:
    """Whether any of the loot opens a later version, by any slot that it has."""
    frame = take_apart(data)
    header, key = frame.header, stolen.store_key
    for each in header.slots:
        assert stolen.pairs is not None
        assert each.keys is not None
        for slot in (each, stolen.slot):
            info = b"mlguard/keystore/v2/store-key\n" + "\n".join(
                (header.store_id.hex(), slot.digest(), header.key_id)
            ).encode("ascii")
            if stolen.pairs.unwrap(each.keys.sealed, info) is not None:
                return True
    mac = put_together(header, key, b"")[0].split(b"\n", 4)[3]
    return mac == frame.mac


def test_a_removed_member_opens_no_later_version(storage: MemoryStorage) -> None:
    stolen = loot(storage.read())
    store = Keystore.open(storage, OWNER)
    store.remove_slot("leaver")
    store.add("new", b"\x08" * 32)
    assert not opens_by(stolen, storage.read())
    with pytest.raises(NoSlotOpens, match="no passphrase slot"):
        Keystore.open(storage, LEAVER)


def test_the_loot_opens_what_was_there_before(storage: MemoryStorage) -> None:
    """The twin: what is tried above does open a store that nobody was removed from."""
    stolen = loot(storage.read())
    Keystore.open(storage, OWNER).add("new", b"\x08" * 32)
    assert opens_by(stolen, storage.read())


def test_an_old_passphrase_and_an_old_copy_open_nothing_after_passwd(
    storage: MemoryStorage,
) -> None:
    stolen = loot(storage.read())
    store = Keystore.open(storage, LEAVER)
    store.replace_slot(Passphrase("another one", work=LIGHT))
    store.add("new", b"\x08" * 32)
    assert not opens_by(stolen, storage.read())
    with pytest.raises(NoSlotOpens, match="the passphrase does not open it"):
        Keystore.open(storage, LEAVER)
    again = Keystore.open(storage, Passphrase("another one"))
    assert again.get("new") == b"\x08" * 32


def test_the_others_need_not_be_there_when_one_is_removed(
    storage: MemoryStorage,
) -> None:
    absent = Passphrase("not typed today", work=LIGHT)
    Keystore.open(storage, OWNER).add_slot(absent, label="absent")
    store = Keystore.open(storage, OWNER)
    store.remove_slot("leaver")
    store.add("new", SECRET)
    assert Keystore.open(storage, absent).names() == ("new", "unet")


def test_a_removed_member_cannot_go_on_with_a_store_he_has_open(
    storage: MemoryStorage,
) -> None:
    open_since = Keystore.open(storage, LEAVER)
    Keystore.open(storage, OWNER).remove_slot("leaver")
    with pytest.raises(NoSlotOpens, match="removed or replaced since"):
        open_since.add("mine", SECRET)


def test_another_member_goes_on_with_a_store_he_has_open(
    storage: MemoryStorage,
) -> None:
    open_since = Keystore.open(storage, OWNER)
    Keystore.open(storage, LEAVER).remove_slot("leaver")
    open_since.add("second", SECRET)
    assert Keystore.open(storage, OWNER).names() == ("second", "unet")


# Planting a slot: the removed member writes a later version himself.


def planted(data: bytes, by: Opener, *, on: bytes | None = None) -> bytes:
    """A later version with a slot of one's own, as far as `by` can make one.

    Args:
        data: A copy that `by` opens.
        by: Who plants.
        on: The version whose header is continued; that of `data` if left out.
    """
    stolen = loot(data, by)
    header = take_apart(on or data).header
    slot, _ = new_slot(Identity(bytes(32)), "planted", header.store_id)
    slots = in_order((*header.slots, slot))
    return forged(header, slots, stolen)


def forged(header: Header, slots: Any, stolen: Opened) -> bytes:
    key, store_id = bytes(range(1, 33)), header.store_id
    later = replace(header, generation=header.generation + 1)
    slots = [with_store_key(slot, key, store_id) for slot in slots]
    link = next_link(
        header.chain,
        header.slots,
        slots,
        by=stolen.slot.id,
        generation=later.generation,
        key=key_id_of(key, store_id) if slots != header.slots else header.key_id,
        store_id=store_id,
    )
    assert stolen.pairs is not None
    signed = link.signed(stolen.pairs, store_id)
    later = replace(later, slots=tuple(slots), chain=(*header.chain, signed))
    return seal_state(later, Contents.empty(), key)[1]


def test_a_removed_member_plants_no_slot_in_a_later_version(
    storage: MemoryStorage,
) -> None:
    old = storage.read()
    Keystore.open(storage, OWNER).remove_slot("leaver")
    forgery = planted(old, LEAVER, on=storage.read())
    with pytest.raises(TamperedKeystore, match="not signed by a member"):
        Keystore.open(MemoryStorage(forgery), OWNER)


def test_a_removed_member_who_goes_on_from_his_old_copy_is_noticed(
    tmp_path: Path,
) -> None:
    path, pins = tmp_path / "keystore", Pins(tmp_path / "pins")
    store = Keystore.create(path, OWNER, label="owner", pins=pins)
    store.add_slot(LEAVER, label="leaver")
    old = path.read_bytes()
    store.remove_slot("leaver")
    thief = MemoryStorage(old)
    his = Keystore.open(thief, LEAVER)
    his.add_slot(Identity(bytes(32)), label="planted")
    for number in range(3):
        his.add(f"later-{number}", SECRET)
    path.write_bytes(thief.read())
    with pytest.raises(RolledBackKeystore, match="a different history") as refusal:
        Keystore.open(path, OWNER, pins=pins)
    assert "a removed member may have written it" in str(refusal.value)


def test_without_a_pin_it_is_not_noticed(storage: MemoryStorage) -> None:
    """The twin: docs/spec/keystore-v2.md, section 4, says so."""
    old = storage.read()
    Keystore.open(storage, OWNER).remove_slot("leaver")
    thief = MemoryStorage(old)
    Keystore.open(thief, LEAVER).add_slot(Identity(bytes(32)), label="planted")
    assert "planted" in {s.label for s in Keystore.open(thief, OWNER).slots()}


def test_an_open_store_notices_a_fork_by_itself(storage: MemoryStorage) -> None:
    old, store = storage.read(), Keystore.open(storage, OWNER)
    store.remove_slot("leaver")
    thief = MemoryStorage(old)
    his = Keystore.open(thief, LEAVER)
    for number in range(3):
        his.add(f"later-{number}", SECRET)
    storage.data = thief.read()
    with pytest.raises(RolledBackKeystore, match="a different history"):
        store.add("more", SECRET)


def test_a_stranger_who_knows_the_public_keys_writes_no_store_that_opens(
    storage: MemoryStorage,
) -> None:
    """He wraps a store key of his own for every member; nobody has signed it."""
    header, key = take_apart(storage.read()).header, bytes(range(1, 33))
    slots = tuple(with_store_key(s, key, header.store_id) for s in header.slots)
    forgery = seal_state(replace(header, slots=slots), Contents.empty(), key)[1]
    with pytest.raises(TamperedKeystore, match=r"slot .* was altered"):
        Keystore.open(MemoryStorage(forgery), OWNER)


def test_a_store_key_that_nobody_signed_is_refused_even_if_it_is_well_wrapped(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, key = take_apart(storage.read()).header, bytes(range(1, 33))
    with monkeypatch.context() as patch:
        patch.setattr("keystore.members.key_id_of", lambda *_: header.key_id)
        slots = tuple(with_store_key(s, key, header.store_id) for s in header.slots)
    forgery = seal_state(replace(header, slots=slots), Contents.empty(), key)[1]
    with pytest.raises(TamperedKeystore, match="not the one that the members signed"):
        Keystore.open(MemoryStorage(forgery), OWNER)


def test_a_member_cannot_be_swapped_for_another_key(storage: MemoryStorage) -> None:
    """The leaver, who has the store key, gives the owner's slot a key of his own."""
    stolen = loot(storage.read())
    header = take_apart(storage.read()).header
    other = Identity(bytes(32))
    slots = []
    for slot in header.slots:
        if slot.label == "owner":
            assert slot.keys is not None
            keys = replace(slot.keys, recipient=Recipient.parse(other.recipient))
            slot = replace(slot, keys=keys)
        slots.append(with_store_key(slot, stolen.store_key, header.store_id))
    contents = open_state(
        take_apart(storage.read()), find_member(header.slots, LEAVER, header.store_id)
    ).contents
    forgery = seal_state(
        replace(header, slots=tuple(slots)), contents, stolen.store_key
    )[1]
    with pytest.raises(TamperedKeystore, match=r"altered|agreed on"):
        Keystore.open(MemoryStorage(forgery), LEAVER)


CHAIN_EDITS = {
    "a link left out": lambda chain: chain[1:],
    "the last link left out": lambda chain: chain[:-1],
    "two links swapped": lambda chain: [chain[1], chain[0], *chain[2:]],
    "a link twice": lambda chain: [*chain, chain[-1]],
    "another signer": lambda chain: [chain[0], chain[1] | {"by": "00000000"}],
    "another generation": lambda chain: [chain[0], chain[1] | {"generation": 2}],
    "another signature": lambda chain: [
        chain[0],
        chain[1] | {"signature": chain[0]["signature"]},
    ],
    "another store key": lambda chain: [chain[0], chain[1] | {"key": "00" * 32}],
}


def with_chain(data: bytes, edit: Callable[[list], list]) -> bytes:
    """A store whose chain was edited, its checksum right again."""
    magic, _, header, rest = data.split(b"\n", 3)
    value = json.loads(header)
    value["chain"] = edit(value["chain"])
    line = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    body = line + b"\n" + rest
    return b"\n".join([magic, hashlib.sha256(body).hexdigest().encode(), body])


@pytest.mark.parametrize("edit", CHAIN_EDITS)
def test_an_edited_chain_is_refused(storage: MemoryStorage, edit: str) -> None:
    data = with_chain(storage.read(), CHAIN_EDITS[edit])
    with pytest.raises(TamperedKeystore, match=r"."):
        Keystore.open(MemoryStorage(data), OWNER)


def test_an_unedited_chain_is_not_refused(storage: MemoryStorage) -> None:
    """The twin of the test above: taking it apart and writing it changes nothing."""
    data = with_chain(storage.read(), lambda chain: chain)
    assert data == storage.read()
    assert Keystore.open(MemoryStorage(data), OWNER).names() == ("unet",)


def test_a_removal_that_keeps_the_store_key_is_refused(storage: MemoryStorage) -> None:
    """A writer with a fault, or one who wants the leaver to stay."""
    frame = take_apart(storage.read())
    header = frame.header
    member = find_member(header.slots, OWNER, header.store_id)
    state, opened = open_state(frame, member), loot(storage.read(), OWNER)
    left = tuple(slot for slot in header.slots if slot.label == "owner")
    link = next_link(
        header.chain,
        header.slots,
        left,
        by=opened.slot.id,
        generation=header.generation,
        key=header.key_id,
        store_id=header.store_id,
    )
    assert opened.pairs is not None
    chain = (*header.chain, link.signed(opened.pairs, header.store_id))
    data = seal_state(
        replace(header, slots=left, chain=chain), state.contents, opened.store_key
    )[1]
    with pytest.raises(TamperedKeystore, match="has the wrong store key"):
        Keystore.open(MemoryStorage(data), OWNER)


def test_the_log_key_of_a_removed_member_writes_no_record(
    storage: MemoryStorage,
) -> None:
    """Nor does the log of before the removal change under it."""
    his = Keystore.open(storage, LEAVER)
    key = his._opened.state.log_key()
    head = his._opened.contents.log
    store = Keystore.open(storage, OWNER)
    store.remove_slot("leaver")
    assert [each.op for each in store.log()][-1] == "slot-remove"
    good = storage.log
    from keystore.log import Deed

    added, _ = key.next_lines(good, head, [Deed(op="export")], generation=9)
    storage.log = good + b"".join(added)
    with pytest.raises(TamperedLog, match="record 5 of the log was altered"):
        store.log()
    lines = good.splitlines(keepends=True)
    again, _ = key.next_lines(lines[0], None, [Deed(op="other")], generation=2)
    storage.log = b"".join([lines[0], *again, *lines[2:]])
    with pytest.raises(TamperedLog, match="expected record 3"):
        store.log()


def test_who_hands_out_a_slot_by_a_recipient_never_had_what_opens_it(
    storage: MemoryStorage,
) -> None:
    maria = Identity.generate(pq=True)
    store = Keystore.open(storage, LEAVER)
    store.add_slot(Recipient.parse(maria.recipient), label="maria")
    Keystore.open(storage, maria).remove_slot("leaver")
    assert Keystore.open(storage, maria).names() == ("unet",)


def test_a_draft_of_a_removed_member_is_not_signed(storage: MemoryStorage) -> None:
    old = storage.read()
    Keystore.open(storage, OWNER).remove_slot("leaver")
    header = take_apart(storage.read()).header
    member = find_member(take_apart(old).header.slots, LEAVER, header.store_id)
    with pytest.raises(NoSlotOpens, match="removed or replaced since"):
        Draft(header, bytes(32), member).with_slots(header.slots[:1])


@pytest.mark.parametrize("copies", [1, 2], ids=["backup", "restored"])
def test_no_former_state_stays_beside_after_a_removal(
    tmp_path: Path, copies: int
) -> None:
    path = tmp_path / "keystore"
    store = Keystore.create(path, OWNER, label="owner")
    store.add_slot(LEAVER, label="leaver")
    for number in range(copies):
        path.with_name(f"keystore.replaced-{number}").write_bytes(path.read_bytes())
    store.add("unet", SECRET)
    store.remove_slot("leaver")
    for file in tmp_path.iterdir():
        with pytest.raises(KeystoreError, match=r"."):
            Keystore.open(file, LEAVER)
