"""A store that was damaged or altered: always refused, and for the right reason."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keystore import (
    Identity,
    Keystore,
    KeystoreError,
    MalformedKeystore,
    MemoryStorage,
    NoSlotOpens,
    Passphrase,
    TamperedKeystore,
    WorkFactorTooHigh,
    sealing,
)
from keystore.header import take_apart

MAGIC = b"mlguard keystore 2\n"


def repaired(data: bytes) -> bytes:
    """What an adversary does after an edit: put the checksum right again."""
    body = data[len(MAGIC) + 65 :]
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def flips(data: bytes) -> list[bytes]:
    return [
        data[:i] + bytes([data[i] ^ (1 << bit)]) + data[i + 1 :]
        for i in range(len(data))
        for bit in range(8)
    ]


def with_header(data: bytes, **changes: object) -> bytes:
    """Edit fields of the header, and repair the checksum."""
    magic, checksum, header, rest = data.split(b"\n", 3)
    edited = json.loads(header) | changes
    line = json.dumps(edited, sort_keys=True, separators=(",", ":")).encode()
    return repaired(b"\n".join([magic, checksum, line, rest]))


def with_slot(data: bytes, **changes: object) -> bytes:
    slot = json.loads(data.split(b"\n")[2])["slots"][0] | changes
    return with_header(data, slots=[slot])


def test_every_flipped_bit_is_called_damage(path: Path, identity: Identity) -> None:
    for data in flips(path.read_bytes()):
        with pytest.raises(MalformedKeystore, match=r"checksum|not a keystore|version"):
            Keystore.open(MemoryStorage(data), identity)


# Every fifth bit, which is another one of each byte; or all.
STEPS = pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])


@STEPS
def test_every_flipped_bit_with_a_repaired_checksum_is_refused(
    path: Path, identity: Identity, step: int
) -> None:
    good = path.read_bytes()
    seen = set()
    for data in flips(good)[8 * (len(MAGIC) + 65) :: step]:
        with pytest.raises(KeystoreError) as refusal:
            Keystore.open(MemoryStorage(repaired(data)), identity)
        seen.add(refusal.type)
    assert seen == {MalformedKeystore, NoSlotOpens, TamperedKeystore}


@STEPS
def test_a_flipped_bit_of_the_payload_with_a_repaired_checksum_is_tampering(
    path: Path, identity: Identity, step: int
) -> None:
    good = path.read_bytes()
    payload = len(take_apart(good).payload)
    for data in flips(good)[-8 * payload :: step]:
        with pytest.raises(TamperedKeystore, match="entries were altered"):
            Keystore.open(MemoryStorage(repaired(data)), identity)


def test_an_untouched_store_opens(path: Path, identity: Identity) -> None:
    """The twin of the tests above: the forger's tools themselves do no harm."""
    good = path.read_bytes()
    assert with_slot(good) == with_header(good) == repaired(good) == good
    assert Keystore.open(MemoryStorage(good), identity).names() == ("unet",)


@pytest.mark.parametrize("size", [0, 5, 19, 50, 84, 300, -1])
def test_a_truncated_store_is_damaged(
    path: Path, identity: Identity, size: int
) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(MalformedKeystore, match=r"keystore\.mlgk: "):
        Keystore.open(path, identity)


def test_a_changed_generation_is_tampering(path: Path, identity: Identity) -> None:
    data = with_header(path.read_bytes(), generation=99)
    with pytest.raises(TamperedKeystore, match="header was altered"):
        Keystore.open(MemoryStorage(data), identity)


def test_a_renamed_slot_is_tampering(path: Path, identity: Identity) -> None:
    data = with_slot(path.read_bytes(), label="other")
    with pytest.raises(TamperedKeystore, match=r"slot [0-9a-f]{8} was altered"):
        Keystore.open(MemoryStorage(data), identity)


def test_a_slot_of_another_store_does_not_open_this_one(
    path: Path, tmp_path: Path, identity: Identity
) -> None:
    Keystore.create(tmp_path / "other", identity)
    slots = json.loads((tmp_path / "other").read_bytes().split(b"\n")[2])["slots"]
    data = with_header(path.read_bytes(), slots=slots)
    with pytest.raises(TamperedKeystore, match="slot"):
        Keystore.open(MemoryStorage(data), identity)


def test_an_old_payload_under_a_new_header_is_tampering(
    path: Path, identity: Identity
) -> None:
    old = take_apart(path.read_bytes()).payload
    Keystore.open(path, identity).add("second", bytes(32))
    new = path.read_bytes()
    data = repaired(new[: -len(take_apart(new).payload)] + old)
    with pytest.raises(TamperedKeystore, match="entries were altered"):
        Keystore.open(MemoryStorage(data), identity)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"memory_kib": 2**40}, "memory_kib is 1099511627776, limit is 2097152"),
        ({"iterations": 17}, "iterations is 17, limit is 16"),
        ({"lanes": 10**6}, "lanes is 1000000, limit is 16"),
    ],
    ids=["memory", "iterations", "lanes"],
)
def test_a_hostile_cost_is_refused_before_any_work_is_done(
    tmp_path: Path,
    passphrase: Passphrase,
    monkeypatch: pytest.MonkeyPatch,
    cost: dict[str, int],
    words: str,
) -> None:
    Keystore.create(tmp_path / "k", passphrase)
    data = with_slot((tmp_path / "k").read_bytes(), **cost)
    monkeypatch.setattr("keystore.passphrase.Argon2id", None)  # a call would crash
    with pytest.raises(WorkFactorTooHigh, match=words):
        Keystore.open(MemoryStorage(data), passphrase)


def test_many_costly_slots_are_refused_together(
    tmp_path: Path, passphrase: Passphrase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Keystore.create(tmp_path / "k", passphrase)
    data = (tmp_path / "k").read_bytes()
    slot = json.loads(data.split(b"\n")[2])["slots"][0]
    costly = slot | {"memory_kib": 2**21, "iterations": 9}
    data = with_header(data, slots=[costly | {"id": f"{i:08x}"} for i in range(2)])
    monkeypatch.setattr("keystore.passphrase.Argon2id", None)
    with pytest.raises(WorkFactorTooHigh, match="the slots need 37748736 KiB"):
        Keystore.open(MemoryStorage(data), passphrase)


@pytest.mark.parametrize("cost", ["memory_kib", "iterations", "lanes"])
def test_a_cost_of_zero_is_malformed(
    tmp_path: Path, passphrase: Passphrase, cost: str
) -> None:
    Keystore.create(tmp_path / "k", passphrase)
    data = with_slot((tmp_path / "k").read_bytes(), **{cost: 0})
    with pytest.raises(MalformedKeystore, match=f"{cost} is not an integer from"):
        Keystore.open(MemoryStorage(data), passphrase)


# One ciphertext, two keys: the "invisible salamander" of AES-GCM.


def _multiply(x: int, y: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if (y >> bit) & 1:
            product ^= x
        x = (x >> 1) ^ (0xE1 << 120 if x & 1 else 0)
    return product


def _inverse(x: int) -> int:
    result, exponent = 1 << 127, (1 << 128) - 2
    while exponent:
        if exponent & 1:
            result = _multiply(result, x)
        x, exponent = _multiply(x, x), exponent >> 1
    return result


def _block(key: bytes, data: bytes) -> int:
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return int.from_bytes(cipher.encryptor().update(data), "big")


def salamander(one: bytes, other: bytes) -> bytes:
    """A ciphertext and tag that AES-GCM accepts under both keys, nonce zero."""
    first = int.from_bytes(os.urandom(16), "big")
    sums, squares = [], []
    for key in (one, other):
        h = _block(key, bytes(16))
        square = _multiply(h, h)
        mask = _block(key, bytes(12) + b"\0\0\0\1")
        known = _multiply(first, _multiply(square, h)) ^ _multiply(256, h)
        sums.append(known ^ mask)
        squares.append(square)
    second = _multiply(sums[0] ^ sums[1], _inverse(squares[0] ^ squares[1]))
    tag = sums[0] ^ _multiply(second, squares[0])
    return b"".join(part.to_bytes(16, "big") for part in (first, second, tag))


def test_a_ciphertext_that_opens_under_two_keys_is_refused() -> None:
    one, other, salt = os.urandom(32), os.urandom(32), os.urandom(32)
    keys = [sealing.derive(k, "x", salt=salt, size_bytes=64) for k in (one, other)]
    forged = salamander(keys[0][:32], keys[1][:32])
    for okm in keys:  # plain AES-GCM takes it under both
        assert len(AESGCM(okm[:32]).decrypt(bytes(12), forged, b"")) == 32
    sealed = salt + keys[0][32:] + forged
    assert len(sealing.unseal(one, "x", sealed, b"")) == 32
    with pytest.raises(sealing.NotThisKey):
        sealing.unseal(other, "x", sealed, b"")


# Whatever the bytes are, only our own refusals come out.


@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(KeystoreError, match=r"."):
        take_apart(data)


@settings(deadline=None)
@given(header=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_header_is_refused(header: bytes) -> None:
    body = header + b"\n" + b"0" * 64 + b"\n" + bytes(80)
    with pytest.raises(KeystoreError, match=r"."):
        take_apart(repaired(MAGIC + b"0" * 64 + b"\n" + body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = ("chain", "generation", "slots", "store_id", "suite", "version")
SLOT_FIELDS = ("created", "id", "identity_id", "kem", "kind", "label")
SLOT_FIELDS += ("public", "sealed", "seed", "verify", "wrapped")


@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_value_of_a_header_field_is_refused(field: str, value: object) -> None:
    changed = with_header(SMALL, **{field: value})
    assume(changed != SMALL)
    with pytest.raises(KeystoreError, match=r"."):
        Keystore.open(MemoryStorage(changed), IDENTITY)


@given(field=st.sampled_from(SLOT_FIELDS), value=JSON)
def test_any_value_of_a_slot_field_is_refused(field: str, value: object) -> None:
    changed = with_slot(SMALL, **{field: value})
    assume(changed != SMALL)
    with pytest.raises(KeystoreError, match=r"."):
        Keystore.open(MemoryStorage(changed), IDENTITY)


@pytest.mark.parametrize(
    "header",
    [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b'{"a":1e999}', b"\xff"],
    ids=["lists", "objects", "digits", "infinity", "not-ascii"],
)
def test_a_bomb_in_the_header_is_refused(header: bytes) -> None:
    body = header + b"\n" + b"0" * 64 + b"\n" + bytes(80)
    with pytest.raises(MalformedKeystore, match="header is not"):
        take_apart(repaired(MAGIC + b"0" * 64 + b"\n" + body))


IDENTITY = Identity(bytes(32))


def _small() -> bytes:
    storage = MemoryStorage()
    Keystore.create(storage, IDENTITY)
    return storage.read()


SMALL = _small()
