"""Is the keystore fast enough not to be noticed?

Measured in one run, on one machine: opening a store of 10,000 key versions with an
identity, and a committed write beside writing and syncing the same bytes twice with
nothing around it (the least that a write with a verified copy can do). Aims: at most
10 ms, at most 3.

Not called keystore.py: Python puts the folder of a script first on its path, and every
script beside it would then import that file instead of the package.

    python benchmarks/keystore_speed.py                  # half a minute
    python benchmarks/keystore_speed.py --folder DIR     # on the disk of DIR
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from keystore import Entry, Identity, Keystore
from keystore.opened import Change, Deed, State

SHAPES = ((1, 1), (10_000, 1), (100, 100), (1, 10_000))  # keys, versions of each
REPEATS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="measure on this disk")
    folder = parser.parse_args().folder
    print(f"{'keys':>7} {'versions':>8} {'bytes':>9} {'open ms':>8} "
          f"{'write ms':>9} {'twice ms':>9} {'ratio':>6}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for keys, versions in SHAPES:
            measure(Path(made) / f"{keys}-{versions}", keys, versions)


def measure(path: Path, keys: int, versions: int) -> None:
    identity = Identity.generate()
    store = Keystore.create(path, identity)
    fill(store, keys, versions)
    opened = timed(lambda _: Keystore.open(path, identity))
    data = path.read_bytes()
    plain = path.with_name("plain")
    writes, twice = [], []
    for turn in range(REPEATS):  # in turns, so that a busy disk is busy for both
        writes.append(timed(lambda n: store.add(f"new-{n}", bytes(32)), turn))
        twice.append(timed(lambda _: write_twice(plain, data), turn))
    print(
        f"{keys:7} {versions:8} {len(data):9} {opened:8.2f} {median(writes):9.2f} "
        f"{median(twice):9.2f} {median(writes) / median(twice):6.2f}"
    )


def fill(store: Keystore, keys: int, versions: int) -> None:
    """Put everything in with one write."""

    def edit(now: State) -> Change:
        contents = now.contents
        bodies = dict(contents.bodies)
        for number in range(keys):
            entry = Entry.new(f"key-{number}", os.urandom(32), purpose="model")
            first = entry.versions[0]
            many = (
                replace(first, id=n + 1, secret=os.urandom(32)) for n in range(versions)
            )
            bodies[entry.name] = replace(entry, versions=tuple(many)).encode()
        return Change(now.header, replace(contents, bodies=bodies), Deed(op="fill"))

    store._opened.change(edit)


def write_twice(path: Path, data: bytes) -> None:
    for _ in range(2):
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def timed(act: Callable[[int], object], number: int | None = None) -> float:
    """Milliseconds: of one call, or the median of many."""
    numbers = range(REPEATS) if number is None else [number]
    found = []
    for each in numbers:
        begin = time.perf_counter()
        act(each)
        found.append(1000 * (time.perf_counter() - begin))
    return median(found)


if __name__ == "__main__":
    main()
