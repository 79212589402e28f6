"""Table 1 and figure 6 of arXiv:2107.09362, measured again, cell by cell.

Trains the baseline and `shf`, `np` and `ffx` at every block size, and scores each model
with the correct key, without a key and with incorrect keys. A finished cell is appended
to a JSON file; run again, the command goes on with what is missing, and a cell that was
killed with its checkpoint. Then our table is printed beside the paper's.

    python benchmarks/table1.py --scale cpu --data camvid --out cpu.json
    python benchmarks/table1.py --scale gpu15 --data voc --out gpu15.json --device cuda
    python benchmarks/table1.py --scale paper --data voc --out paper.json --device cuda
    python benchmarks/table1.py --scale cpu --out cpu.json --print

paper  FCN-ResNet50, 256 × 256, batches of 256, 100 epochs (recipe fcn_voc)
gpu15  FCN-MobileNetV2 on a part of VOC, 256 × 256, bf16: a cell is about a minute
cpu    FCN-MobileNetV2 on CamVid, 128 × 128: a cell is about five minutes on one core
smoke  FCN-small on generated images: seconds, and numbers without meaning
convnext, swin, setr  models that read patches, from random weights, a few epochs
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from table1_cell import Cell, read_splits, train_and_score

from mlguard.recipe import Recipe, read_recipe, recipe_sha256

METHODS = ("shf", "np", "ffx")
# What one reader wants first comes first: a grid may be cut off anywhere.
BLOCK_SIZES = (4, 2, 8, 16, 32, 64, 128, 256)
PAPER_BASELINE = 0.7080
PAPER: dict[str, dict[int, float]] = {  # mIoU with the correct key, 21 classes
    "shf": dict(
        zip(
            (2, 4, 8, 16, 32, 64, 128, 256),
            (0.6597, 0.5941, 0.4723, 0.2958, 0.1575, 0.0693, 0.0600, 0.0380),
            strict=True,
        )
    ),
    "np": dict(
        zip(
            (2, 4, 8, 16, 32, 64, 128, 256),
            (0.6216, 0.5695, 0.5173, 0.4329, 0.3880, 0.3733, 0.3218, 0.3007),
            strict=True,
        )
    ),
    "ffx": dict(
        zip(
            (2, 4, 8, 16, 32, 64, 128, 256),
            (0.5271, 0.4944, 0.4651, 0.3444, 0.2763, 0.2628, 0.2417, 0.2367),
            strict=True,
        )
    ),
}
VOC_FOLDER = ["data.kind=folder", "data.train=train_aug", "data.validation=100"]
SHORT = ["train.epochs=6", "train.batch=32", "model.weights=none", "audit.batch=128"]

TINY = (
    "data.shapes_images=[16,4,4]",
    "data.size=[32,32]",
    "train.epochs=1",
    "train.batch=8",
    "audit.incorrect_keys=3",
)


@dataclass(frozen=True)
class Scale:
    """What is trained, and how large a grid.

    Attributes:
        recipe: A shipped recipe.
        overrides: Of its fields.
        sizes: Block sizes, what one reader wants first coming first.
        methods: Of the cells.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    sizes: tuple[int, ...] = BLOCK_SIZES
    methods: tuple[str, ...] = METHODS


SCALES = {
    "paper": Scale("fcn_voc"),
    "gpu15": Scale(
        "fcn_mobilenet_voc",
        (
            "train.epochs=16",
            "train.batch=64",
            "train.learning_rate=2e-3",
            "train.precision=bf16",
            "audit.batch=256",
        ),
    ),
    "cpu": Scale("camvid", ("data.size=[128,128]", "train.epochs=12"), BLOCK_SIZES[:4]),
    "smoke": Scale("demo", TINY, (4,)),
    "smoke-patch": Scale("demo", (*TINY, "model.name=fcn_patch_small"), (4,), ("np",)),
    # Models that read patches, from random weights: that they train under a key at all.
    "convnext": Scale("convnext_voc", (*VOC_FOLDER, *SHORT), (4,), ("shf", "np")),
    "swin": Scale("swin_voc", (*VOC_FOLDER, *SHORT), (4,), ("shf", "np")),
    "setr": Scale("setr_voc", (*VOC_FOLDER, *SHORT), (16,), ("shf", "np")),
}


def main() -> None:
    options = parse()
    recipe, grid = plan(options)
    table = read_table(options.out, options, recipe)
    if not options.print:
        fill(table, grid, recipe, options)
    print(report(table, grid))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--data", type=Path, help="as `mlguard protect --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--block-sizes", help="with commas; else all of the scale")
    parser.add_argument(
        "--every", type=int, default=1, help="n: incorrect keys on each nth test image"
    )
    parser.add_argument("--most", type=int, help="cells to train in this run")
    parser.add_argument("--seconds", type=float, help="start no cell after these")
    parser.add_argument("--print", action="store_true", help="train nothing")
    return parser.parse_args()


def plan(options: argparse.Namespace) -> tuple[Recipe, list[Cell]]:
    """The recipe of a scale, and its cells in the order of their worth."""
    scale = SCALES[options.scale]
    recipe = read_recipe(scale.recipe, overrides=[*scale.overrides, *options.set])
    sizes = scale.sizes
    if options.block_sizes:
        sizes = tuple(int(size) for size in options.block_sizes.split(","))
    grid = [Cell(None, 1)]
    grid += [Cell(method, size) for size in sizes for method in scale.methods]
    return recipe, grid


def read_table(path: Path, options: argparse.Namespace, recipe: Recipe) -> Any:
    """The cells that there are, or none."""
    digest = recipe_sha256(recipe)
    if not path.exists():
        return {
            "scale": options.scale,
            "recipe": SCALES[options.scale].recipe,
            "overrides": [*SCALES[options.scale].overrides, *options.set],
            "recipe_sha256": digest,
            "cells": [],
        }
    table = json.loads(path.read_text())
    if table["recipe_sha256"] != digest and not options.print:
        raise SystemExit(f"{path} was begun with other settings: take another file")
    return table


def fill(
    table: Any, grid: list[Cell], recipe: Recipe, options: argparse.Namespace
) -> None:
    """Train what is missing; every finished cell is in the file at once."""
    begun = time.monotonic()
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")  # TF32; a CPU is not concerned
    torch.backends.cudnn.benchmark = True
    there = {Cell(c["method"], c["block_size"] or 1).name for c in table["cells"]}
    missing = [cell for cell in grid if cell.name not in there][: options.most]
    if not missing:
        return
    splits = read_splits(recipe, options.data, device)
    for cell in missing:
        if options.seconds and time.monotonic() - begun > options.seconds:
            print(f"{cell.name}: not begun, {options.seconds:.0f} s are over")
            return
        checkpoint = options.out.with_suffix(f".{cell.name}.checkpoint")
        found = train_and_score(
            cell,
            recipe,
            splits,
            checkpoint=checkpoint,
            incorrect_keys=recipe.audit.incorrect_keys,
            device=device,
            every=options.every,
        )
        table["cells"].append(found | {"machine": machine(device)})
        unfinished = options.out.with_suffix(".part")
        unfinished.write_text(json.dumps(table, indent=1) + "\n")
        unfinished.replace(options.out)
        checkpoint.unlink(missing_ok=True)
        print(
            f"{cell.name}: correct {found['correct']:.4f},"
            f" {found['train_s']:.0f} s trained, {found['score_s']:.0f} s scored",
            flush=True,
        )


def machine(device: torch.device) -> dict[str, Any]:
    """Where a cell was measured."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "mlguard": version("mlguard-toolkit"),
        "python": platform.python_version(),
    }


def report(table: Any, grid: list[Cell]) -> str:
    """Our table beside the paper's, in Markdown."""
    cells = {(c["method"], c["block_size"]): c for c in table["cells"]}
    baseline = cells.get((None, None))
    if baseline is None:
        return "no baseline yet"
    whole = baseline["correct"]
    lines = [
        f"Baseline {whole:.3f} (paper: {PAPER_BASELINE:.3f}), floor"
        f" {baseline['floor']:.3f}. Share of the baseline, ours / paper's:\n",
        "| M | `shf` | `np` | `ffx` | order, ours | order, paper's |",
        "|---|---|---|---|---|---|",
    ]
    sizes = sorted({cell.block_size for cell in grid if cell.method})
    for size in sizes:
        row = [_beside(cells.get((m, size)), m, size, whole) for m in METHODS]
        ours = {m: cells[m, size]["correct"] for m in METHODS if (m, size) in cells}
        theirs = {m: PAPER[m][size] for m in METHODS}
        order = _order(ours) if len(ours) == len(METHODS) else ""
        lines.append(f"| {size} | {' | '.join(row)} | {order} | {_order(theirs)} |")
    lines += [
        "",
        "| | correct key | no key | incorrect keys: mean, best | leakage |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        for method in METHODS:
            if (method, size) in cells:
                lines.append(_conditions(cells[method, size], whole))
    lines += ["", _correlation(cells)]
    missing = [
        c.name for c in grid if c.method and (c.method, c.block_size) not in cells
    ]
    lines += ["", f"Not run: {', '.join(missing) or 'nothing of this grid'}."]
    return "\n".join(lines)


def _beside(cell: Any, method: str, size: int, whole: float) -> str:
    theirs = PAPER[method][size] / PAPER_BASELINE
    ours = f"{cell['correct'] / whole:.0%}" if cell else "–"
    return f"{ours} / {theirs:.0%}"


def _order(scores: dict[str, float]) -> str:
    return " > ".join(sorted(scores, key=scores.__getitem__, reverse=True))


def _conditions(cell: Any, whole: float) -> str:
    tried = cell["incorrect"]
    mean, best, floor = sum(tried) / len(tried), max(tried), cell["floor"]
    leaked = (max(best, cell["no_key"]) - floor) / (whole - floor)
    return (
        f"| `{cell['method']}`, M={cell['block_size']} | {cell['correct']:.3f}"
        f" | {cell['no_key']:.3f} | {mean:.3f}, {best:.3f} of {len(tried)}"
        f" | {max(0.0, leaked):.0%} |"
    )


def _correlation(cells: Any) -> str:
    """Whether the two tables put the same cells before the same others."""
    common = [(m, size) for m in METHODS for size in BLOCK_SIZES if (m, size) in cells]
    if len(common) < 3:
        return "Rank correlation: too few cells."
    ours = [cells[one]["correct"] for one in common]
    theirs = [PAPER[method][size] for method, size in common]
    rank = spearmanr(ours, theirs).statistic
    return f"Rank correlation (Spearman) over {len(common)} cells: {rank:.2f}."


if __name__ == "__main__":
    main()
