"""How time and memory grow: with image size, batch, M, classes, keys, entries, bytes.

A series runs in a process of its own, from small to large, and counts the processor's
time of one thread, which other jobs on the machine do not change much, and the peak of
memory above what importing took. The exponent is the slope of log time over log size
in the upper half of a series: 1 is linear.

    python benchmarks/growth.py --out growth.json
    python benchmarks/growth.py --print growth.json
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LEAST_S = 0.1  # of processor time for each point
KEY = bytes(range(32))
Point = tuple[int, float]  # size, seconds of processor time
BARS = 30  # characters of the longest bar
LARGEST = "GROWTH_LARGEST_MIB"  # tells a series' process about bundles


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--series", default=";".join(SERIES))
    parser.add_argument("--print", type=Path, help="show what was measured before")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--largest", default="4096", metavar="MIB", help="of all bundles"
    )
    options = parser.parse_args()
    if options.bundle:
        make_bundle(int(options.bundle[0]), Path(options.bundle[1]))
        return
    if options.one:
        print(json.dumps(alone(options.one)))
        return
    if options.print:
        print(tables(json.loads(options.print.read_text())))
        return
    results: dict[str, Any] = {}
    for name in options.series.split(";"):
        command = [sys.executable, __file__, "--one", name]
        environment = os.environ | {"OMP_NUM_THREADS": "1", LARGEST: options.largest}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))


def alone(name: str) -> list[dict[str, float]]:
    """One series in this process."""
    points = []
    series = SERIES[name]()
    next(series)  # everything is imported
    before = resident("VmRSS:")
    for size, seconds in series:
        peak = max(0.0, resident("VmHWM:") - before)
        points.append({"size": size, "cpu_s": seconds, "peak_mib": round(peak, 1)})
    return points


def resident(field: str) -> float:
    """MiB of memory in use, or at most so far, by its name in /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(field))
    return int(kibibytes) / 1024


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of one call: the least of several."""
    runs: list[float] = []
    while len(runs) < 3 or (sum(runs[:50]) < LEAST_S and len(runs) < 50):
        begun = time.process_time()
        work()
        runs.append(time.process_time() - begun)
    return min(runs)


def exponent(points: list[dict[str, float]]) -> float:
    """The slope of log time over log size, in the upper half."""
    upper = points[len(points) // 2 - 1 :] if len(points) > 3 else points
    first, last = upper[0], upper[-1]
    times = math.log(max(last["cpu_s"], 1e-9) / max(first["cpu_s"], 1e-9))
    return times / math.log(last["size"] / first["size"])


def tables(results: dict[str, Any]) -> str:
    """A table for each series, with bars for the eye, in Markdown."""
    lines: list[str] = []
    for name, points in results.items():
        lines += [f"### {name}: exponent {exponent(points):.2f}", ""]
        lines += ["| size | processor ms | peak MiB | |", "|---|---|---|---|"]
        most = max(point["cpu_s"] for point in points)
        for point in points:
            bar = "█" * max(1, round(BARS * point["cpu_s"] / most))
            lines.append(
                f"| {point['size']:,} | {point['cpu_s'] * 1e3:.2f}"
                f" | {point['peak_mib']:.0f} | {bar} |"
            )
        lines.append("")
    return "\n".join(lines)


# Series. The first thing each gives says that it is ready.

READY: Point = (0, 0.0)


def transform_side() -> Iterator[Point]:
    """Numpy transform `shf`, M=4, by pixels of an image."""
    yield from transforms(((side, 4, 1) for side in (64, 128, 256, 512, 1024)), 0)


def transform_batch() -> Iterator[Point]:
    """The same, 128 × 128, by images."""
    yield from transforms(((128, 4, count) for count in (1, 2, 4, 8, 16, 32)), 2)


def transform_blocks() -> Iterator[Point]:
    """The same, 256 × 256, by M, the derivation of the key included."""
    yield from transforms(((256, m, 1) for m in (2, 4, 8, 16, 32, 64, 128, 256)), 1)


def transforms(settings: Iterator[tuple[int, int, int]], by: int) -> Iterator[Point]:
    import numpy as np

    from mlguard.keys import ModelKey
    from mlguard.transforms import derive_transform

    subkeys = ModelKey(KEY).for_model(bytes(16))
    yield READY
    for setting in settings:
        side, block_size, count = setting
        images = np.zeros((count, 3, side, side), np.uint8)
        if by == 1:
            seconds = cpu_seconds(
                lambda m=block_size, x=images: derive_transform(
                    ("shf",), subkeys, m
                ).apply(x)
            )
        else:
            transform = derive_transform(("shf",), subkeys, block_size)
            seconds = cpu_seconds(lambda t=transform, x=images: t.apply(x))
        yield (side * side if by == 0 else setting[by]), seconds


def predict_side() -> Iterator[Point]:
    """`Session.predict` of LR-ASPP on MobileNetV3, by pixels of an image."""
    import numpy as np
    from runtime import make

    from mlguard.keys import ModelKey
    from mlguard.runtime import Session

    with tempfile.TemporaryDirectory() as made:
        make("lraspp_mobilenet_v3_large", 21, Path(made))
        path = Path(made) / "sealed.mlgb"
        session = Session.open(path, ModelKey(KEY), threads=1)
        session.predict(np.zeros((1, 3, 64, 64), np.uint8))
        yield READY
        for side in (128, 256, 512, 1024, 2048):
            images = np.zeros((1, 3, side, side), np.uint8)
            yield side * side, cpu_seconds(lambda x=images: session.predict(x))


def score_classes() -> Iterator[Point]:
    """Counting a 256 × 256 mask, by classes."""
    import numpy as np

    from mlguard.tasks import Segmentation

    yield READY
    draw = np.random.default_rng(0)
    for classes in (2, 8, 32, 128, 250):
        shape = (1, 256, 256)
        answers, truth = draw.integers(classes, size=(2, *shape), dtype=np.uint8)
        task = Segmentation(classes)
        yield classes, cpu_seconds(lambda t=task, a=answers, b=truth: t.count(a, b))


def audit_keys() -> Iterator[Point]:
    """Scoring FCN-small on 4 images of 64 × 64, by incorrect keys."""
    import torch

    from mlguard.data import open_split
    from mlguard.keys import ModelKey
    from mlguard.models import ARCHITECTURES, Normalization, keyed
    from mlguard.protect import evaluate
    from mlguard.recipe import read_recipe
    from mlguard.transforms import KeyedTransforms

    torch.set_num_threads(1)
    model = ARCHITECTURES["fcn_small"](6).eval()
    spec = read_recipe("demo", overrides=["data.shapes_images=[2,2,4]"]).data
    images = open_split(spec, None, "test", seed=0)
    images.check()
    transforms, conditions = KeyedTransforms(("shf",), 4), {}
    yield READY
    for count in (1, 4, 16, 64):
        for number in range(len(conditions), count):
            subkeys = ModelKey(number.to_bytes(32, "little")).for_model(bytes(16))
            conditions[str(number)] = keyed(transforms.derive(subkeys))
        yield (
            count,
            cpu_seconds(
                lambda: evaluate(
                    model,
                    images,
                    conditions,
                    normalization=Normalization(),
                    device=torch.device("cpu"),
                    batch=4,
                )
            ),
        )


def keystore_entries() -> Iterator[Point]:
    """Opening a keystore, by keys in it."""
    from keystore_speed import fill

    from keystore import Identity, Keystore

    with tempfile.TemporaryDirectory() as made:
        identity = Identity.generate()
        yield READY
        for count in (10, 100, 1000, 10_000):
            path = Path(made) / str(count)
            fill(Keystore.create(path, identity), count, 1)
            yield count, cpu_seconds(lambda p=path: Keystore.open(p, identity))


def predict_batch() -> Iterator[Point]:
    """The same, 128 × 128, by images at a time."""
    import numpy as np
    from runtime import make

    from mlguard.keys import ModelKey
    from mlguard.runtime import Session

    with tempfile.TemporaryDirectory() as made:
        make("lraspp_mobilenet_v3_large", 21, Path(made))
        session = Session.open(Path(made) / "sealed.mlgb", ModelKey(KEY), threads=1)
        session.predict(np.zeros((1, 3, 64, 64), np.uint8))
        yield READY
        for count in (1, 2, 4, 8, 16, 32, 64):
            images = np.zeros((count, 3, 128, 128), np.uint8)
            yield count, cpu_seconds(lambda x=images: session.predict(x))


def training_batch() -> Iterator[Point]:
    """A step of training FCN on MobileNetV2 under `shf`, 128 × 128, by images."""
    import torch
    from training_step import step_of

    from mlguard.keys import ModelKey
    from mlguard.models import keyed
    from mlguard.recipe import read_recipe
    from mlguard.transforms import TransformSet, derive_transform

    torch.set_num_threads(1)
    recipe = read_recipe("demo", overrides=["model.name=fcn_mobilenet_v2"])
    subkeys = ModelKey(KEY).for_model(bytes(16))
    condition = keyed(TransformSet(derive_transform(("shf",), subkeys, 4)))
    step = step_of(recipe, condition)
    yield READY
    for count in (2, 4, 8, 16, 32):
        images = torch.randint(256, (count, 3, 128, 128), dtype=torch.uint8)
        masks = torch.randint(recipe.data.classes, (count, 128, 128))
        yield count, cpu_seconds(lambda x=images, y=masks: step(x, y))


WIDTH = 16_384  # of the matrices of a bundle: 64 MiB each, or one that is smaller


def bundle_sizes() -> list[int]:
    """Bytes of weights: 1 MiB, 4, 16 and so on."""
    largest = int(os.environ.get(LARGEST, "4096"))
    return [4**power << 20 for power in range(12) if 4**power <= largest]


def bundle_bytes() -> Iterator[Point]:
    """Opening a sealed bundle of matrices, by bytes of weights."""
    from mlguard.keys import ModelKey
    from mlguard.runtime import Session

    yield READY
    for size in bundle_sizes():
        with tempfile.TemporaryDirectory() as made:
            out = Path(made) / "some.mlgb"
            command = [sys.executable, __file__, "--bundle", str(size), str(out)]
            subprocess.run(command, check=True)  # elsewhere: memory is counted here
            begun = time.process_time()
            Session.open(out, ModelKey(KEY), threads=1)
            yield size, time.process_time() - begun


def export_bytes() -> Iterator[Point]:
    """Writing such a bundle from an ONNX file, compared with it, by the same."""
    from mlguard.foreign import export_file
    from mlguard.keys import ModelKey

    yield READY
    for size in bundle_sizes():
        with tempfile.TemporaryDirectory() as made:
            path = matrices(size, Path(made))
            begun = time.process_time()
            export_file(path, ModelKey(KEY), Path(made) / "some.mlgb")
            yield size, time.process_time() - begun


def make_bundle(size: int, out: Path) -> None:
    """Write a bundle of a size in bytes, from a model beside it."""
    from mlguard.foreign import export_file
    from mlguard.keys import ModelKey

    with tempfile.TemporaryDirectory(dir=out.parent) as made:
        export_file(matrices(size, Path(made)), ModelKey(KEY), out)


def matrices(size: int, folder: Path) -> Path:
    """Write a model that multiplies by matrices of so many bytes together."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    rows = min(1024, size // (4 * WIDTH))
    count = size // (4 * WIDTH * rows)
    draw = np.random.default_rng(0)
    one = draw.standard_normal((rows, WIDTH), dtype=np.float32).tobytes()
    tensors = []
    with (folder / "weights").open("wb") as file:
        for number in range(count):
            tensor = TensorProto(
                name=f"w{number}", data_type=TensorProto.FLOAT, dims=(rows, WIDTH)
            )
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": "weights", "offset": file.tell(), "length": len(one)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            file.write(one)
    names = [f"y{number}" for number in range(count)]
    nodes = [
        helper.make_node("MatMul", ["x", f"w{number}"], [name])
        for number, name in enumerate(names)
    ]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Sum", names, ["y"])],
        "matrices",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        folder / "model.onnx",
    )
    return folder / "model.onnx"


def trace_customers() -> Iterator[Point]:
    """Naming the customer whose copy of a model leaked, by customers."""
    import numpy as np

    from mlguard.keys import ModelKey
    from mlguard.marks import embed, trace

    draw = np.random.default_rng(0)
    own = {
        f"layers.{number}.weight": draw.standard_normal((128, 128, 3, 3), np.float32)
        for number in range(4)
    }
    subkeys = ModelKey(KEY).for_model(bytes(16))
    leak = embed(own, subkeys, (1).to_bytes(16, "big"))
    yield READY
    for count in (1, 10, 100, 1000):
        customers = {
            f"customer {n}": n.to_bytes(16, "big") for n in range(1, count + 1)
        }
        begun = time.process_time()
        found = trace(leak, own, customers, subkeys)
        taken = time.process_time() - begun
        if [one.customer for one in found.named] != ["customer 1"]:
            raise SystemExit("the customer whose copy it is was not named alone")
        yield count, taken


def ledger_customers() -> Iterator[Point]:
    """Reading and verifying an owner's ledger, by files issued."""
    import hashlib

    from mlguard.grants import Ledger, LedgerEntry, read_ledger
    from mlguard.grants.ledger import PAYLOAD_TYPE
    from mlguard.grants.texts import sign_text
    from mlguard.signing import SigningKey

    signer = SigningKey.generate()
    yield READY
    lines: list[bytes] = []
    head = Ledger().head
    for count in (10, 100, 1000, 5000):
        while len(lines) < count:
            entry = LedgerEntry(
                number=len(lines),
                previous=head,
                kind="issued",
                time="2026-01-01T00:00:00Z",
                key_id="0" * 16,
                key_name="acme",
                protection_id="0" * 32,
                grant_id=f"{len(lines):032x}",
                bundle_sha256="0" * 64,
                licensee=f"customer {len(lines)}",
                recipient="0" * 64,
                file_sha256="0" * 64,
            )
            line = sign_text(entry, PAYLOAD_TYPE, signer)
            head = hashlib.sha256(line).hexdigest()
            lines.append(line + b"\n")
        data = b"".join(lines)
        yield (
            count,
            cpu_seconds(lambda d=data: read_ledger(d, signer.public, name="ledger")),
        )


SERIES: dict[str, Callable[[], Iterator[Point]]] = {
    "transform, pixels": transform_side,
    "transform, images": transform_batch,
    "transform, M": transform_blocks,
    "predict, pixels": predict_side,
    "predict, images": predict_batch,
    "training, images": training_batch,
    "score, classes": score_classes,
    "audit, keys": audit_keys,
    "keystore, keys": keystore_entries,
    "bundle, bytes": bundle_bytes,
    "export, bytes": export_bytes,
    "ledger, issued files": ledger_customers,
    "trace, customers": trace_customers,
}

if __name__ == "__main__":
    main()
