"""Throw millions of broken stores at the reader; only its own refusals may come out.

Starts from good examples of each part of the format and from the test kit: the file,
the header under a right checksum, the opened payload, the log, an identity. Flips,
cuts, repeats and splices bytes, and puts in what parsers stumble over.

    python benchmarks/fuzz_keystore.py --inputs 10000000 --processes 2
"""

import argparse
import collections
import hashlib
import multiprocessing
import random
import time
from pathlib import Path

from keystore import Identity, Keystore, KeystoreError, MemoryStorage
from keystore.header import MAGIC, take_apart
from keystore.payload import Contents
from keystore.textform import from_text

KIT = Path(__file__).parents[1] / "tests" / "vectors" / "keystore"
IDENTITY = Identity(bytes(range(32)))
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
    options = parser.parse_args()
    share = options.inputs // options.processes
    begin = time.perf_counter()
    work = [(options.seed + n, share) for n in range(options.processes)]
    with multiprocessing.Pool(options.processes) as pool:
        found = sum(pool.starmap(fuzz, work), collections.Counter())
    seconds = time.perf_counter() - begin
    print(f"{found.total()} inputs in {seconds:.0f} s, seed {options.seed}")
    for outcome, count in found.most_common():
        print(f"{count:12}  {outcome}")


def fuzz(seed: int, count: int) -> collections.Counter[str]:
    draw = random.Random(seed)
    storage, parts = prepare()
    targets = list(parts)
    found: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        target = draw.choice(targets)
        found[outcome_of(target, mutate(draw, parts[target]), storage)] += 1
    return found


def prepare() -> tuple[MemoryStorage, dict[str, list[bytes]]]:
    """A good store, and for each part of the format some good examples of it."""
    storage = MemoryStorage()
    store = Keystore.create(storage, IDENTITY)
    store.add("acme", bytes(32))
    store.add_version("acme", bytes(32))
    store.add_use("acme", "run", "runs/acme")
    good = storage.read()
    frame = take_apart(good)
    kit = [path.read_bytes().partition(b"\n\n")[2] for path in KIT.glob("*.test")]
    headers = [data.split(b"\n")[2] for data in kit if data.count(b"\n") > 3]
    return storage, {
        "file": [good, *(data for data in kit if len(data) < 3000)],
        "header": [frame.header.encode(), *(h for h in headers if len(h) < 3000)],
        "payload": [store._opened.contents.encode()],
        "log": [storage.log],
        "identity": [IDENTITY.reveal().encode()],
    }


def mutate(draw: random.Random, examples: list[bytes]) -> bytes:
    data = bytearray(draw.choice(examples))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 2, 8, 64)))
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:end] = draw.choice(TOKENS)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end]
        elif kind == 4:
            other = draw.choice(examples)
            data[at:end] = other[at:end]
        else:
            data[at:at] = draw.choice(TOKENS)
    return bytes(data)


def outcome_of(target: str, data: bytes, storage: MemoryStorage) -> str:
    try:
        run(target, data, storage)
    except KeystoreError as refusal:
        return f"{target}: {type(refusal).__name__}"
    return f"{target}: accepted"


def run(target: str, data: bytes, storage: MemoryStorage) -> None:
    """Read the bytes as what they are a broken form of; anything may be raised."""
    good = take_apart(storage.read())
    if target == "file":
        Keystore.open(MemoryStorage(data), IDENTITY)
    elif target == "header":
        rest = data + b"\n" + good.mac + b"\n" + bytes(good.payload)
        checksum = hashlib.sha256(rest).hexdigest().encode()
        Keystore.open(MemoryStorage(MAGIC + checksum + b"\n" + rest), IDENTITY)
    elif target == "payload":
        contents = Contents.decode(data)
        for name in contents.names():
            contents.entry(name)
        if contents.encode() != data:
            raise AssertionError("two spellings of one payload")
    elif target == "log":
        store = Keystore.open(storage, IDENTITY)
        list(store._opened.log_key().records(data, None))
    else:
        from_text("MLGUARD-IDENTITY-1-", data.decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
