"""How much memory binding and exporting take, as a multiple of the model.

Each step runs in a process of its own: the peak of its memory over what it held once
everything was imported, divided by the bytes of the model's weights.

    python benchmarks/memory.py --out memory.json                # FCN-ResNet101, 217 MB
    python benchmarks/memory.py --model setr_vit_b_16 --size 256
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = ("bind", "export, format 1", "export, format 2")
KEY = bytes(range(32))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fcn_resnet101")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--block-size", type=int, default=4, help="M, pixels")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", nargs=3, metavar=("STEP", "FOLDER", "M"))
    options = parser.parse_args()
    if options.step:
        step, folder, size = options.step
        print(json.dumps(run_step(step, Path(folder), int(size))))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        plain_run(folder / "plain", options.model, options.size)
        model = (folder / "plain" / "model.safetensors").stat().st_size
        print(f"{options.model}: {model / 1e6:.0f} MB")
        rows = {step: measured(step, folder, options.block_size) for step in STEPS}
    for step, row in rows.items():
        row["times_the_model"] = row["peak_bytes"] / model
        print(
            f"{step}: {row['times_the_model']:.1f} times the model,"
            f" {row['seconds']:.1f} s",
            flush=True,
        )
    if options.out:
        facts = {"model": options.model, "model_bytes": model, "steps": rows}
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


def plain_run(path: Path, model: str, size: int) -> None:
    """A run folder of untrained weights, nearly: memory does not depend on them."""
    from mlguard.protect import DataFolder, Job
    from mlguard.recipe import read_recipe

    overrides = [
        f"model.name={model}",
        f"data.size=[{size},{size}]",
        "data.shapes_images=[2,2,2]",
        "train.batch=2",
        "train.epochs=1",
    ]
    recipe = read_recipe("demo", overrides=overrides)
    Job(path, recipe, DataFolder(None)).train_baseline(None)


def measured(step: str, folder: Path, block_size: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", step, str(folder), str(block_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_step(step: str, folder: Path, block_size: int) -> dict[str, Any]:
    """One step in this process: seconds, and bytes above what importing took."""
    import onnxscript  # noqa: F401  what is imported is not measured
    import torch
    from runtime import resident

    from mlguard.keys import ModelKey
    from mlguard.protect import bind_model, bound_recipe, read_plain, read_run
    from mlguard.protect.export import export_graph, export_run

    # torch imports what it exports with when it first exports.
    export_graph(torch.nn.Conv2d(3, 2, 1).eval(), 20)
    key, bound = ModelKey(KEY), folder / "bound"
    before, begun = resident(peak=False), time.perf_counter()
    if step == "bind":
        plain = read_plain(folder / "plain")
        recipe = bound_recipe(plain, methods=["shf"], block_size=block_size)
        bind_model(plain, recipe, key, bound, key_name="measured")
    else:
        form = 1 if step.endswith("1") else 2
        export_run(read_run(bound), key, folder / f"{form}.mlgb", form=form)
    taken = time.perf_counter() - begun
    peak = (resident(peak=True) - before) * 2**20
    return {"seconds": taken, "peak_bytes": peak}


if __name__ == "__main__":
    main()
