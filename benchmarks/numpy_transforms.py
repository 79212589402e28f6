"""What the numpy transforms cost, beside copying what they return.

Processor time of one thread: `apply`, the definition that it must equal bit for bit
(`values`, then the division), a copy of the result, and the calls of numpy that a way
through numpy has to make at least, on arrays that lie ready: a division of every byte,
or a look-up for every value, or both; in turns, medians.

    python benchmarks/numpy_transforms.py --out numpy_transforms.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelKey
from mlguard.transforms import derive_transform

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
CHAINS = (("np",), ("shf",), ("ffx",), ("np", "shf", "ffx"))
SHAPES = ((1, 256), (8, 256), (1, 512), (1, 1024))  # images, pixels of a side
TURNS, LEAST_S = 7, 0.02  # processor seconds of one turn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--block-size", type=int, default=4, help="M, pixels")
    options = parser.parse_args()
    rows = [
        measured(chain, count, side, options.block_size)
        for count, side in SHAPES
        for chain in CHAINS
    ]
    print("| images | | `apply` ÷ copy | numpy's calls ÷ copy | definition ÷ copy |")
    print("|---|---|---|---|---|")
    for row in rows:
        copy = row["copy_s"]
        ratios = (row[f"{name}_s"] / copy for name in ("apply", "calls", "defined"))
        cells = " | ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"| {row['images']} of {row['side']}² | `{row['methods']}` | {cells} |")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def measured(
    chain: tuple[str, ...], count: int, side: int, block_size: int
) -> dict[str, Any]:
    transform = derive_transform(chain, SUBKEYS, block_size)
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(count, 3, side, side), dtype=np.uint8)
    result, scale = transform.apply(images), np.float32(transform.scale)
    work = {
        "copy": result.copy,
        "apply": lambda: transform.apply(images),
        "calls": least(chain, images, result),
        "defined": lambda: transform.values(images).astype(np.float32) / scale,
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(TURNS):
        for name, act in work.items():
            runs, begun = 0, time.process_time()
            while not runs or time.process_time() - begun < LEAST_S:
                act()
                runs += 1
            taken[name].append((time.process_time() - begun) / runs)
    medians = {f"{name}_s": statistics.median(t) for name, t in taken.items()}
    name = "+".join(chain)
    return {"methods": name, "images": count, "side": side, **medians}


def least(
    chain: tuple[str, ...],
    images: NDArray[np.uint8],
    result: NDArray[np.float32],
) -> Callable[[], None]:
    """The calls that no way through numpy does without; nothing is computed of them."""
    order = np.arange(images[0, 0].size)
    planes = images.reshape(-1, order.size)
    taken, given = np.empty_like(planes), result.reshape(planes.shape)
    table = np.arange(256, dtype=np.float32)
    entries = planes.astype(np.int64)

    def calls() -> None:
        if "shf" in chain:
            np.take(planes, order, 1, taken, mode="clip")
        if "ffx" in chain:
            np.take(table, entries, out=given, mode="clip")
        else:
            np.divide(planes, np.float32(255), out=given)

    return calls


if __name__ == "__main__":
    main()
