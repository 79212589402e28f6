"""What one step of training takes, for every recipe: processor time and memory.

Each recipe runs in a process of its own, on a CPU with one thread: its model with
random weights, its key's transform, loss and optimizer, on a few random images of its
size. What its own batch and all its epochs would take is computed from that, and the
page says so. Finished recipes are kept in the file.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --out docs/results/recipes.json \
      --page docs/results/recipes.md
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch
from runtime import resident
from training_step import step_of

from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, keyed
from mlguard.recipe import read_recipe, shipped_recipes
from mlguard.transforms import TransformSet, derive_transform

IMAGES_OF_256 = 4  # in a step; more if they are smaller, at most the recipe's batch
KNOWN_CLASSES = {"cifar10": 10, "imagenet": 1000, "imagefolder": 20}
IMAGES = {  # in training, without what is held out; the recipes and docs/data.md
    "cifar10": 45_000,
    "imagenet": 1_271_167,
    "voc": 1_318,
    "shapes": 1_200,
    "camvid": 367,
    "fcn_mobilenet_voc": 3_260,
    "voc_split": 3_260,
}
MARK = "<!-- made by benchmarks/recipes.py: do not edit below -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows: dict[str, Any] = found.get("recipes", {})
    for name in options.only or shipped_recipes():
        if name not in rows:
            rows[name] = measured(name)
            facts = {"what": (__doc__ or "").splitlines()[0], "recipes": rows}
            options.out.write_text(json.dumps(facts, indent=1) + "\n")
            print(name, rows[name], flush=True)
    if options.page:
        before = options.page.read_text().partition(MARK)[0]
        options.page.write_text(f"{before}{MARK}\n\n{table(rows)}")


def measured(name: str) -> dict[str, Any]:
    """One recipe in a process of its own, which has imported what this one has."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        row: dict[str, Any] = pool.apply(one_recipe, (name,))
    return row


def one_recipe(name: str) -> dict[str, Any]:
    """Steps of one recipe: processor seconds, and MiB above what importing took."""
    before = resident(peak=False)
    recipe = read_recipe(name)
    classes = recipe.data.classes or KNOWN_CLASSES[recipe.data.kind]
    if not recipe.data.classes:
        names = tuple(f"class {number}" for number in range(classes))
        data = recipe.data.model_copy(update={"class_names": names})
        recipe = recipe.model_copy(update={"data": data})
    condition, methods = NO_KEY, recipe.transform.image_methods
    if methods:
        subkeys = ModelKey(bytes(range(32))).for_model(bytes(16))
        size = recipe.transform.block_size
        condition = keyed(TransformSet(derive_transform(methods, subkeys, size)))
    train = step_of(recipe, condition)
    height, width = recipe.data.size
    dense = recipe.data.task == "segmentation"

    def step(number: int) -> float:
        images = torch.randint(256, (number, 3, height, width), dtype=torch.uint8)
        shape = (number, height, width) if dense else (number,)
        masks = torch.randint(classes, shape)
        begun = time.process_time()
        train(images, masks)
        return time.process_time() - begun

    more = min(recipe.train.batch, IMAGES_OF_256 * max(1, 256**2 // (height * width)))
    few = more // 2
    step(few)
    low = resident(peak=True) - before
    seconds = step(more)
    high = resident(peak=True) - before
    facts = recipe.train
    return {
        "architecture": recipe.model.name,
        "size": [height, width],
        "batch": facts.batch,
        "epochs": facts.epochs,
        "images": images_of(name, recipe.data.kind),
        "measured_with": more,
        "seconds_an_image": seconds / more,
        "peak_mib": high,
        "mib_an_image": max(0.0, (high - low) / (more - few)),
        "torch": torch.__version__,
    }


def images_of(name: str, kind: str) -> int | None:
    """How many images a recipe is trained on; None if they are the reader's."""
    for key in (name, name.partition("_")[0], kind):
        if key in IMAGES:
            return IMAGES[key]
    return None


def table(rows: dict[str, Any]) -> str:
    """The rows, with what is computed from them."""
    lines = [
        "| recipe | model, pixels | measured: s an image | measured: GiB, with images "
        "| its batch | computed: GiB with its batch | images × epochs "
        "| computed: hours on one such core |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in shipped_recipes():
        row = rows.get(name)
        if row is None:
            unknown = " not measured |" * 3 + " |" * 4
            lines.append(f"| [{name}](../../recipes/{name}.toml) |{unknown}")
            continue
        memory = (
            row["peak_mib"]
            + (row["batch"] - row["measured_with"]) * row["mib_an_image"]
        )
        work = f"{row['images']:,} × {row['epochs']}" if row["images"] else "yours"
        hours = "–"
        if row["images"]:
            total = row["images"] * row["epochs"] * row["seconds_an_image"] / 3600
            digits = 2 if total < 1 else 1 if total < 10 else 0
            hours = f"{total:,.{digits}f}"
        height, width = row["size"]
        lines.append(
            f"| [{name}](../../recipes/{name}.toml) | `{row['architecture']}`, "
            f"{height}×{width} | {row['seconds_an_image']:.3f} | "
            f"{row['peak_mib'] / 1024:.2f}, {row['measured_with']} | "
            f"{row['batch']} | {memory / 1024:.1f} | "
            f"{work} | {hours} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
