"""Sealed tensors: the vectors, what is refused, and that no key meets two contents."""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlguard.errors
from mlguard.errors import TamperedTensors, WrongKey
from mlguard.keys import ModelKey
from mlguard.sealing import (
    FileKey,
    PlainTensor,
    TensorHeader,
    new_salt,
    open_blob,
    open_tensor,
    seal_blob,
    seal_tensor,
    tensor_bytes,
    tensors,
)

PATH = Path(__file__).parents[1] / "vectors/sealed_tensors.json"
VECTORS = json.loads(PATH.read_text())
KEY = ModelKey(bytes(range(32)))
SUBKEYS = KEY.for_model(bytes(range(16)))
HEADER = TensorHeader("w", 1, (2, 3))
DATA = bytes(range(24))
Seal = tuple[bytes, tuple[bytes, ...]]


def sealed(key: FileKey, data: bytes = DATA, header: TensorHeader = HEADER) -> Seal:
    sink = io.BytesIO()
    tags = seal_tensor(key, 0, header, data, sink)
    return sink.getvalue(), tags


def opened(
    key: FileKey,
    seal: Seal,
    *,
    index: int = 0,
    header: TensorHeader = HEADER,
    hidden: bool = True,
) -> bytes:
    into = bytearray(header.size_bytes)
    ciphertext, tags = seal
    source = io.BytesIO(ciphertext)
    open_tensor(key, index, header, source, into, tags, name="f", hidden=hidden)
    return bytes(into)


def check(case: dict[str, Any], given: Any) -> None:
    if case["expect"] == "success":
        assert given().hex() == case["plain"]
    else:
        refusal = getattr(mlguard.errors, case["expect"])
        with pytest.raises(refusal, match="was changed after it was sealed"):
            given()


@pytest.mark.parametrize("case", VECTORS["keys"], ids=lambda case: case["salt"][:4])
def test_vectors_of_keys(case: dict[str, str]) -> None:
    subkeys = ModelKey(bytes.fromhex(case["secret"])).for_model(
        bytes.fromhex(case["protection_id"])
    )
    salt = bytes.fromhex(case["salt"])
    issued = FileKey(bytes.fromhex(case["file_key"]), salt)
    for key in (FileKey.of_owner(subkeys, salt), issued):
        assert key.commitment.hex() == case["commitment"]
        assert key.key(case["label"]).hex() == case["key"]


@pytest.mark.parametrize("case", VECTORS["tensors"], ids=lambda case: case["comment"])
def test_vectors_of_tensors(case: dict[str, Any]) -> None:
    key = FileKey(bytes.fromhex(case["file_key"]), bytes.fromhex(case["salt"]))
    header = TensorHeader(case["name"], case["type"], tuple(case["shape"]))
    seal = bytes.fromhex(case["sealed"]), tuple(map(bytes.fromhex, case["tags"]))
    plain, hidden = bytes.fromhex(case["plain"]), case["hidden"]
    check(
        case,
        lambda: opened(key, seal, index=case["index"], header=header, hidden=hidden),
    )
    if case["expect"] == "success":
        sink = io.BytesIO()
        tags = seal_tensor(key, case["index"], header, plain, sink, hidden=hidden)
        assert (sink.getvalue(), tags) == seal


@pytest.mark.parametrize("case", VECTORS["blobs"], ids=lambda case: case["comment"])
def test_vectors_of_blobs(case: dict[str, Any]) -> None:
    key = FileKey(bytes(range(32)), bytes(range(0x80, 0xA0)))
    content, tag = bytes.fromhex(case["sealed"]), bytes.fromhex(case["tag"])
    options = {"name": "f", "hidden": case["hidden"]}
    check(case, lambda: open_blob(key, case["name"], content, tag, **options))
    if case["expect"] == "success":
        plain = bytes.fromhex(case["plain"])
        again = seal_blob(key, case["name"], plain, hidden=case["hidden"])
        assert again == (content, tag)


def test_vector_of_a_tensor_of_two_chunks() -> None:
    case = VECTORS["large"]
    data = (bytes(range(251)) * (case["size"] // 251 + 1))[: case["size"]]
    key = FileKey(bytes(range(32)), bytes(range(0x80, 0xA0)))
    header = TensorHeader("w", 2, (case["size"],))
    seal = sealed(key, data, header)
    assert hashlib.sha256(seal[0]).hexdigest() == case["sealed_sha256"]
    assert [tag.hex() for tag in seal[1]] == case["tags"]
    assert opened(key, seal, header=header) == data


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 7)


@pytest.mark.usefixtures("small_chunks")
def test_chunks_cannot_be_swapped_left_out_or_repeated() -> None:
    key = FileKey.of_owner(SUBKEYS, new_salt())
    ciphertext, tags = sealed(key)
    assert (len(ciphertext), len(tags)) == (24, 4)
    assert opened(key, (ciphertext, tags)) == DATA
    swap = ciphertext[7:14] + ciphertext[:7] + ciphertext[14:]
    repeated = ciphertext[:7] * 2 + ciphertext[14:]
    for content, order in ((swap, (1, 0, 2, 3)), (repeated, (0, 0, 2, 3))):
        with pytest.raises(TamperedTensors, match="tensor 'w' was changed"):
            opened(key, (content, tuple(tags[at] for at in order)))
    with pytest.raises(ValueError, match="expected 4 tags, got 3"):
        opened(key, (ciphertext, tags[:3]))
    shorter = TensorHeader("w", 1, (2, 2))  # the first three chunks, whole
    with pytest.raises(TamperedTensors, match="tensor 'w' was changed"):
        opened(key, (ciphertext[:16], tags[:3]), header=shorter)


def test_every_flipped_bit_is_refused_and_nothing_is_left_in_the_buffer() -> None:
    key = FileKey.of_owner(SUBKEYS, new_salt())
    ciphertext, tags = sealed(key)
    for bit in range(8 * len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        into = bytearray(b"\xff" * len(changed))
        with pytest.raises(TamperedTensors, match="f: tensor 'w' was changed"):
            open_tensor(key, 0, HEADER, io.BytesIO(changed), into, tags, name="f")
        assert not any(into)
    assert opened(key, (ciphertext, tags)) == DATA


def test_a_file_that_ends_in_a_tensor_is_refused() -> None:
    key = FileKey.of_owner(SUBKEYS, new_salt())
    ciphertext, tags = sealed(key)
    with pytest.raises(TamperedTensors, match="the file ends within it"):
        opened(key, (ciphertext[:-1], tags))


def test_another_key_is_named_before_anything_is_decrypted() -> None:
    salt = new_salt()
    key = FileKey.of_owner(SUBKEYS, salt)
    key.check(key.commitment, name="f")
    other = ModelKey(bytes(range(1, 33))).for_model(bytes(range(16)))
    model = KEY.for_model(bytes(16))
    strangers = (
        FileKey.of_owner(other, salt),
        FileKey.of_owner(model, salt),
        FileKey.of_owner(SUBKEYS, new_salt()),
    )
    for stranger in strangers:
        with pytest.raises(WrongKey, match="f was not sealed under this key"):
            stranger.check(key.commitment, name="f")


def test_no_key_and_nonce_meet_two_contents() -> None:
    """Two exports under one key, and two tensors of one file, share no key."""
    files = [FileKey.of_owner(SUBKEYS, new_salt()) for _ in range(3)]
    labels = ["tensor/0", "tensor/1", "blob/graph", "manifest"]
    keys = [file.key(label) for file in files for label in labels]
    assert len(set(keys)) == len(files) * len(labels)
    zeros = [sealed(file, bytes(24))[0] for file in files]  # the keystreams
    assert len(set(zeros)) == len(files)
    again = FileKey.of_owner(SUBKEYS, bytes(32)), FileKey.of_owner(SUBKEYS, bytes(32))
    assert sealed(again[0]) == sealed(again[1])  # so that the above could fail


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=40), st.sampled_from([True, False]), st.text(max_size=9))
def test_any_bytes_come_back(data: bytes, hidden: bool, name: str) -> None:
    key = FileKey.of_owner(SUBKEYS, bytes(32))
    header = TensorHeader("n" + name, 2, (len(data),))
    sink = io.BytesIO()
    tags = seal_tensor(key, 5, header, data, sink, hidden=hidden)
    assert len(sink.getvalue()) == len(data)
    seal = sink.getvalue(), tags
    assert opened(key, seal, index=5, header=header, hidden=hidden) == data


def test_a_file_key_is_never_pickled_or_printed() -> None:
    key = FileKey(bytes(range(32)), bytes(32))
    assert repr(key) == "FileKey()"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)


def test_sizes_follow_from_type_and_shape() -> None:
    sizes = {(1, (2, 3)): 24, (16, (5,)): 10, (22, (3,)): 2, (25, (5,)): 2, (7, ()): 8}
    assert {key: tensor_bytes(*key) for key in sizes} == sizes
    with pytest.raises(ValueError, match="type 8 cannot be sealed"):
        tensor_bytes(8, (1,))
    with pytest.raises(ValueError, match="negative size"):
        tensor_bytes(1, (-1,))
    with pytest.raises(ValueError, match="has 24 bytes, got 23"):
        PlainTensor("w", 1, (2, 3), DATA[:-1])
    assert PlainTensor("w", 1, (2, 3), DATA).header == HEADER
