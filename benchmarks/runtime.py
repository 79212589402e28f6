"""How fast a sealed bundle opens and predicts, beside onnxruntime on the plain model.

    python benchmarks/runtime.py [--out docs/results/runtime.json] [--rounds 15]

The plain side is what a user of onnxruntime writes: the model as an ONNX file, pixels
normalized in numpy, the classes taken by numpy's argmax. Our side is a sealed bundle of
format 2 of the same weights, `Session.open` and `Session.predict`. Everything but the
ratios depends on the machine; on one that others use too, the ratio of the seconds that
processors worked says more than that of the seconds that passed. Prediction is measured
in one process, the two sides in turn, and the ratio is that of the medians; opening and
peak memory in a new process each time, the two sides in turn as well. Weights are
random: they change no time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"fcn_mobilenet_v2": 21, "lraspp_mobilenet_v3_large": 21, "fcn_resnet50": 21}
SIZES, BATCHES = (256, 520), (1, 8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KEY = bytes(range(32))
LEAST, ENOUGH_S = 3, 45  # rounds, and seconds of one row after which no more is begun
PLAIN, SEALED = "plain.onnx", "sealed.mlgb"


def make(name: str, classes: int, folder: Path) -> None:
    """Write the same weights as an ONNX file and as a sealed bundle."""
    import onnx
    import torch

    from mlguard.bundle import ImageFacts, TaskFacts, write_bundle2
    from mlguard.foreign import About, lift_model, model_of
    from mlguard.keys import ModelKey, new_protection_id
    from mlguard.models.architectures import ARCHITECTURES
    from mlguard.protect.export import export_graph

    torch.manual_seed(0)
    model = ARCHITECTURES[name](classes).eval()
    graph = export_graph(model, 20)
    onnx.save(graph, folder / PLAIN)
    about = About(
        image=ImageFacts(input="pixels", mean=MEAN, std=STD, size=(256, 256)),
        task=TaskFacts(
            name="segmentation",
            output="logits",
            class_names=tuple(f"class {number}" for number in range(classes)),
            ignore_index=255,
        ),
    )
    lifted = lift_model(graph, name=name)
    described = model_of(with_signature(lifted, folder / PLAIN), about, name=name)
    subkeys = ModelKey(KEY).for_model(new_protection_id())
    write_bundle2(folder / SEALED, described, subkeys)


def with_signature(lifted: Any, plain: Path) -> Any:
    """The lifted model with what the plain one takes and gives."""
    from dataclasses import replace

    from mlguard.foreign.lift import Signature

    session = plain_session(plain)
    sides = (session.get_inputs(), session.get_outputs())
    takes, gives = (
        tuple(Signature(one.name, one.type, tuple(one.shape)) for one in side)
        for side in sides
    )
    return replace(lifted, inputs=takes, outputs=gives)


def plain_session(path: Path) -> Any:
    """As a user of onnxruntime opens it."""
    from mlguard.engine import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )


def plain_predict(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    """As a user of onnxruntime predicts."""
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (MEAN, STD))

    def predict(images: np.ndarray) -> np.ndarray:
        pixels = (images.astype(np.float32) / np.float32(255) - mean) / std
        (logits,) = session.run(["logits"], {"pixels": pixels})
        return logits.argmax(axis=1).astype(np.uint8)

    return predict


def sealed_predict(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """As a user of mlguard predicts."""
    from mlguard.keys import ModelKey
    from mlguard.runtime import Session

    return Session.open(path, ModelKey(KEY)).predict


def predictions(
    folder: Path, rounds: int, sizes: Sequence[int], batches: Sequence[int]
) -> list[dict[str, Any]]:
    """Time predictions, the two sides in turn."""
    sides = {
        "plain": plain_predict(plain_session(folder / PLAIN)),
        "sealed": sealed_predict(folder / SEALED),
    }
    rows = []
    for size in sizes:
        for batch in batches:
            images = np.random.default_rng(0).integers(
                0, 256, (batch, 3, size, size), dtype=np.uint8
            )
            masks = {side: predict(images) for side, predict in sides.items()}
            same = float((masks["plain"] == masks["sealed"]).mean())
            taken = turns(sides, images, rounds)
            rows.append({"size": size, "batch": batch, "same": same, **summary(taken)})
    return rows


def turns(
    sides: dict[str, Callable[[np.ndarray], Any]], images: np.ndarray, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds that passed and were worked, of each round and side, in turning order.

    The slowest rows get fewer rounds, but never less than LEAST.
    """
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    begun = time.perf_counter()
    for number in range(rounds):
        if number >= LEAST and time.perf_counter() - begun > ENOUGH_S:
            break
        for side in list(sides)[:: 1 if number % 2 else -1]:
            before = time.perf_counter(), time.process_time()
            sides[side](images)
            after = time.perf_counter(), time.process_time()
            taken[side].append((after[0] - before[0], after[1] - before[1]))
    return taken


def summary(taken: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians in seconds, and the ratios of sealed to plain."""
    facts: dict[str, Any] = {"rounds": len(taken["plain"])}
    for kind, name in enumerate(("s", "cpu_s")):
        medians = {
            side: statistics.median(one[kind] for one in times)
            for side, times in taken.items()
        }
        facts |= {f"{side}_{name}": median for side, median in medians.items()}
        facts["ratio" if name == "s" else "cpu_ratio"] = (
            medians["sealed"] / medians["plain"]
        )
    return facts


def openings(folder: Path, rounds: int) -> dict[str, Any]:
    """Time opening and measure its peak of memory, in new processes."""
    found: dict[str, list[dict[str, float]]] = {"plain": [], "sealed": []}
    for _ in range(rounds):
        for side in found:
            command = [sys.executable, __file__, "--open", side, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side].append(json.loads(done.stdout))
    result: dict[str, Any] = {}
    for fact in ("open_s", "peak_mib", "held_mib"):
        values = {
            side: statistics.median(one[fact] for one in times)
            for side, times in found.items()
        }
        result[fact] = {**values, "ratio": values["sealed"] / values["plain"]}
    return result


def open_once(side: str, folder: Path) -> dict[str, float]:
    """Open one side in this process: seconds, and MiB above what importing took."""
    import mlguard.runtime  # noqa: F401  what is imported is not measured

    before, begun = resident(peak=False), time.perf_counter()
    if side == "plain":
        kept: Any = plain_session(folder / PLAIN)
    else:
        kept = sealed_predict(folder / SEALED)
    taken = time.perf_counter() - begun
    peak, held = resident(peak=True) - before, resident(peak=False) - before
    del kept
    return {"open_s": taken, "peak_mib": peak, "held_mib": held}


def resident(*, peak: bool) -> float:
    """MiB of memory in use, or at most so far.

    Not `getrusage`: its peak is inherited from the process that started this one.
    """
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(field))
    return int(kibibytes) / 1024


def main() -> None:
    """Make the models, measure, print a table, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", nargs=2, metavar=("SIDE", "FOLDER"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--batches", nargs="*", type=int, default=BATCHES)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.open:
        print(json.dumps(open_once(given.open[0], Path(given.open[1]))))
        return
    warnings.simplefilter("ignore")
    results = {}
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            make(name, MODELS[name], place)
            size = (place / PLAIN).stat().st_size
            results[name] = {
                "plain_bytes": size,
                "opening": openings(place, max(LEAST, given.rounds // 3)),
                "predictions": predictions(
                    place, given.rounds, given.sizes, given.batches
                ),
            }
        show(name, results[name])
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")


def show(name: str, result: dict[str, Any]) -> None:
    """Print one model's rows."""
    print(f"{name}, {result['plain_bytes'] / 1e6:.1f} MB")
    for fact, values in result["opening"].items():
        print(
            f"  {fact:9} plain {values['plain']:.2f} sealed {values['sealed']:.2f} "
            f"ratio {values['ratio']:.2f}"
        )
    for row in result["predictions"]:
        print(
            f"  {row['size']}x{row['size']} batch {row['batch']}: plain "
            f"{row['plain_s'] * 1e3:.1f} ms, sealed {row['sealed_s'] * 1e3:.1f} ms, "
            f"ratio {row['ratio']:.2f}, of work {row['cpu_ratio']:.2f}, "
            f"same {row['same']:.4%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
