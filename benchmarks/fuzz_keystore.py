"""Throw millions of broken stores at the reader; only its own refusals may come out.

Starts from good examples of each part of the format and from the test kit: the file,
the header under a right checksum, the opened payload, the log, an identity, a
recipient, and what is wrapped for one. Flips,
cuts, repeats and splices bytes, and puts in what parsers stumble over.

    python benchmarks/fuzz_keystore.py --inputs 10000000 --processes 2
"""

import argparse
import collections
import hashlib
import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from keystore import (
    Identity,
    Keystore,
    KeystoreError,
    MemoryStorage,
    Recipient,
    TokenUri,
    wrap,
)
from keystore.header import MAGIC, Header, take_apart
from keystore.payload import Contents
from keystore.textform import from_text
from keystore.token import TokenLock

Found = collections.Counter[str]
Refusals = tuple[type[Exception], ...]

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
KITS = (VECTORS / "keystore", VECTORS / "keystore2")
LONGEST = 8000  # bytes of an example
IDENTITY = Identity(bytes(range(32)))
BOTH = (IDENTITY, Identity(bytes(range(32)), pq=True))
URI = b"pkcs11:token=my%20team;object=k%c3%a9y;id=%01%ff?module-path=/usr/lib/hsm.so"
EDITS = (1, 1, 1, 2, 4)  # in one input
SPANS = (1, 2, 8, 64)  # bytes
TOKENS = [
    b"\x00", b"\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-1", b"0",
    b"1e9", b"NaN", b"null", b"true", b"\\ud800", b"\\u0000", b"9" * 400,
    b"[" * 2000, b"\xff",
    b'"kind":"passphrase"', b'"state":"destroyed"', b'"secret":null', b"2147483648",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", help="of the format; all if left out")
    options = parser.parse_args()
    work = partial(fuzz, prepare, (KeystoreError,), options.parts)
    report(work, options.inputs, options.processes, options.seed)


def report(
    work: Callable[[int, int], Found], inputs: int, processes: int, seed: int
) -> None:
    """Share the inputs out and print what came of them."""
    begin = time.perf_counter()
    shares = [(inputs // processes, seed + number) for number in range(processes)]
    with multiprocessing.Pool(processes) as pool:
        found = sum(pool.starmap(work, shares), collections.Counter())
    seconds = time.perf_counter() - begin
    print(f"{found.total()} inputs in {seconds:.0f} s, seed {seed}")
    for outcome, count in found.most_common():
        print(f"{count:12}  {outcome}")


@dataclass(frozen=True)
class Target:
    """One part of the format: good examples of it, and what reads it."""

    examples: list[bytes]
    read: Callable[[bytes], object]


def fuzz(
    make: Callable[[], dict[str, Target]],
    refusals: Refusals,
    parts: list[str] | None,
    count: int,
    seed: int,
) -> Found:
    """Try so many inputs; what came out, by part and by outcome."""
    draw = random.Random(seed)
    targets = make()
    names = parts or list(targets)
    found: Found = collections.Counter()
    for _ in range(count):
        name = draw.choice(names)
        target = targets[name]
        outcome = outcome_of(target.read, mutate(draw, target.examples), refusals)
        found[f"{name}: {outcome}"] += 1
    return found


def prepare() -> dict[str, Target]:
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


def mutate(draw: random.Random, examples: list[bytes]) -> bytes:
    data = bytearray(draw.choice(examples))
    for _ in range(EDITS[below(draw, len(EDITS))]):
        at = below(draw, len(data) + 1)
        end = min(len(data), at + SPANS[below(draw, len(SPANS))])
        kind = below(draw, 6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << below(draw, 8)
        elif kind == 1:
            data[at:end] = draw.choice(TOKENS)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end]
        elif kind == 4:
            data[at:end] = draw.choice(examples)[at:end]
        else:
            data[at:at] = draw.choice(TOKENS)
    return bytes(data)


def below(draw: random.Random, limit: int) -> int:
    return int(draw.random() * limit)  # three times as fast as randrange


def outcome_of(read: Callable[[bytes], object], data: bytes, refusals: Refusals) -> str:
    """How one input ends; anything but a refusal is a traceback and stops the run."""
    try:
        read(data)
    except refusals as refusal:
        return type(refusal).__name__
    return "accepted"


if __name__ == "__main__":
    main()
