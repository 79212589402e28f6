"""For as long as one likes: `python -m tests.fuzzing 60`, seconds for each parser.

`--inputs N` tries so many of each part instead, `--only bundle` or `--only "audit log"`
those parts whose name begins so. An input that brings a parser down is written to
`crash-…`, and the program ends with 1.
"""

import argparse
import collections
import hashlib
import multiprocessing
import random
import sys
import time
import traceback
from pathlib import Path

from tests.fuzzing import TARGETS, all_targets
from tests.fuzzing.harness import Crash, Found, fuzz

AT_ONCE = 200  # inputs between two looks at the clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    parser.add_argument("--inputs", type=int, help="of each part, not so many seconds")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help=f"of {', '.join(TARGETS)}")
    options = parser.parse_args()
    begin = time.perf_counter()
    shares = [
        (options.seed + number, options.seconds, options.inputs, options.only)
        for number in range(options.processes)
    ]
    with multiprocessing.Pool(options.processes) as pool:
        parts = pool.starmap(work, shares)
    found = sum((counts for counts, _ in parts), collections.Counter())
    print(f"{found.total()} inputs in {time.perf_counter() - begin:.0f} s")
    for outcome, count in found.most_common():
        print(f"{count:12}  {outcome}")
    return int(any(crashed for _, crashed in parts))


def work(
    seed: int, seconds: float, inputs: int | None, only: str
) -> tuple[Found, bool]:
    """One process: every parser, one after the other."""
    found: Found = collections.Counter()
    crashed = False
    for name, target in all_targets(only).items():
        draw, end, done = random.Random(f"{name} {seed}"), time.monotonic() + seconds, 0
        while done < inputs if inputs is not None else time.monotonic() < end:
            try:
                found += fuzz(name, target, draw, AT_ONCE)
            except Crash as crash:
                crashed = True
                file = Path(f"crash-{hashlib.sha256(crash.data).hexdigest()[:16]}")
                file.write_bytes(crash.data)
                print(f"{name}: {file}", file=sys.stderr)
                traceback.print_exception(crash)
                break
            done += AT_ONCE
    return found, crashed


if __name__ == "__main__":
    sys.exit(main())
