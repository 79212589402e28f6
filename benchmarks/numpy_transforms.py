"""What the numpy transforms cost, beside copying what they return.

Processor time of one thread: `apply`, the definition that it must equal bit for bit
(`values`, then the division), and a copy of the result; in turns, medians.

    python benchmarks/numpy_transforms.py --out numpy_transforms.json
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

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
    print("| images | | `apply` ÷ copy | definition ÷ copy | definition ÷ `apply` |")
    print("|---|---|---|---|---|")
    for row in rows:
        copy, apply, defined = (row[f"{n}_s"] for n in ("copy", "apply", "defined"))
        print(
            f"| {row['images']} of {row['side']}² | `{row['methods']}` |"
            f" {apply / copy:.1f} | {defined / copy:.1f} | {defined / apply:.1f} |"
        )
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


if __name__ == "__main__":
    main()
