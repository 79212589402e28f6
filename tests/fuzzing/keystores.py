"""Parsers of the keystore: file, header, payload, log, identity, recipient, URI."""

import hashlib
from dataclasses import replace
from pathlib import Path

from keystore import (
    Identity,
    Keystore,
    MemoryStorage,
    Recipient,
    TokenUri,
    wrap,
)
from keystore.header import MAGIC, Header, take_apart
from keystore.payload import Contents
from keystore.textform import from_text
from keystore.token import TokenLock
from tests.fuzzing.harness import Target

VECTORS = Path(__file__).parents[1] / "vectors"
KITS = (VECTORS / "keystore", VECTORS / "keystore2")
LONGEST = 8000  # bytes of an example
IDENTITY = Identity(bytes(range(32)))
BOTH = (IDENTITY, Identity(bytes(range(32)), pq=True))
URI = b"pkcs11:token=my%20team;object=k%c3%a9y;id=%01%ff?module-path=/usr/lib/hsm.so"


def targets() -> dict[str, Target]:
    """Each part of the format; what needs a key is given the right one."""
    storage = MemoryStorage()
    store = Keystore.create(storage, IDENTITY)
    store.add("acme", bytes(32))
    store.add_version("acme", bytes(32))
    store.add_use("acme", "run", "runs/acme")
    good = storage.read()
    frame = take_apart(good)
    files = [path for kit in KITS for path in kit.glob("*.test")]
    kit = [path.read_bytes().partition(b"\n\n")[2] for path in files]
    headers = [data.split(b"\n")[2] for data in kit if data.count(b"\n") > 3]
    after = b"\n" + frame.mac + b"\n" + bytes(frame.payload)
    log_key = store._opened.state.log_key()

    def read_file(data: bytes) -> None:
        Keystore.open(MemoryStorage(data), IDENTITY)

    def read_header(data: bytes) -> None:
        rest = data + after
        checksum = hashlib.sha256(rest).hexdigest().encode()
        read_file(MAGIC + checksum + b"\n" + rest)

    def read_log(data: bytes) -> None:
        for _ in log_key.records(data, None, generation=store.generation):
            pass

    return {
        "file": Target(
            [good, *(data for data in kit if len(data) < LONGEST)], read_file
        ),
        "header": Target(
            [frame.header.encode(), *(h for h in headers if len(h) < LONGEST)],
            read_header,
        ),
        "payload": Target([store._opened.contents.encode()], read_payload),
        "log": Target([storage.log], read_log),
        "token": Target([token_header(frame.header).encode()], read_header),
        "uri": Target([URI], read_uri),
        "identity": Target([IDENTITY.reveal().encode()], read_identity),
        "recipient": Target([each.recipient.encode() for each in BOTH], read_recipient),
        "wrapped": Target([wrap(IDENTITY.recipient, b"key", b"")], read_wrapped),
    }


def read_payload(data: bytes) -> None:
    contents = Contents.decode(data, 2)
    for name in contents.names():
        contents.entry(name)
    if contents.encode() != data:
        raise AssertionError("two spellings of one payload")


def token_header(header: Header) -> Header:
    """A header with slots of both mechanisms of a PKCS#11 token."""
    locks = [
        TokenLock(key_id=b"\x01", mechanism=name, nonce=bytes(n), secret=bytes(size))
        for name, n, size in (("aes-gcm", 12, 48), ("aes-kwp", 0, 40))
    ]
    slots = [
        replace(header.slots[0], id=f"{number:08x}", lock=lock)
        for number, lock in enumerate(locks)
    ]
    return replace(header, slots=(*slots, header.slots[0]))


def read_uri(data: bytes) -> None:
    uri = TokenUri.parse(data.decode("utf-8", "replace"))
    again = TokenUri.parse(f"{uri}?module-path=m")
    if replace(again, module_path=uri.module_path) != uri:
        raise AssertionError("a URI does not survive being written")


def read_identity(data: bytes) -> None:
    from_text("MLGUARD-IDENTITY-1-", data.decode("utf-8", "replace"))


def read_recipient(data: bytes) -> None:
    found = Recipient.parse(data.decode("utf-8", "replace"))
    if found.line() not in {each.recipient for each in BOTH}:
        raise AssertionError("a recipient that nobody made")


def read_wrapped(data: bytes) -> None:
    if IDENTITY.unwrap(data, b"") != b"key":
        raise AssertionError("something was opened that nobody wrapped")
