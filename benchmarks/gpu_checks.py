"""What only a GPU can show, in pieces; every row is in the JSON file at once.

    python benchmarks/gpu_checks.py parity --out parity.json --device cuda
    python benchmarks/gpu_checks.py bound --out bound.json --device cuda
    python benchmarks/gpu_checks.py precision --out precision.json --device cuda

parity     transforms give numpy's bits; a session gives the classes of the CPU; and
           training takes the same steps
bound      models that read patches compute the same when they are bound to a key
precision  training by a `Job` in float32, bf16 and fp16: images a second, and the loss

`--small` takes small models and images, so that a CPU is through in seconds.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlguard.errors import MlguardError
from mlguard.keys import ModelKey
from mlguard.models import (
    ARCHITECTURES,
    NO_KEY,
    Normalization,
    keyed,
    logits_of,
    output_of,
)
from mlguard.models.binding import prepare_stem
from mlguard.models.conditions import torch_transform
from mlguard.protect import DataFolder, Job
from mlguard.protect.binding import fold
from mlguard.recipe import read_recipe
from mlguard.runtime import Session
from mlguard.transforms import TransformSet, derive_transform

KEY = ModelKey(bytes(range(32)))  # a measurement protects nothing
SUBKEYS = KEY.for_model(bytes(16))
CHAINS = (("shf",), ("np",), ("ffx",), ("np", "shf", "ffx"), ("orthogonal",))
PATCH_MODELS = {"fcn_convnext_tiny": 4, "upernet_swin_t": 4, "setr_vit_b_16": 16}
EPOCHS = 2  # of a training by a `Job`
STEPS = 8  # of training that are compared
Row = dict[str, Any]


def main() -> None:
    options = parse()
    rows: list[Row] = []
    for row in PIECES[options.piece](options):
        rows.append(row)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(row, flush=True)
    if any(row.get("ok") is False for row in rows):
        raise SystemExit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("piece", choices=PIECES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    return parser.parse_args()


def parity(options: argparse.Namespace) -> Iterator[Row]:
    """Transforms bit for bit, a session, and steps of training."""
    yield from transforms_alike(options)
    yield session_alike(options)
    yield training_alike(options)


def transforms_alike(options: argparse.Namespace) -> Iterator[Row]:
    """Whether the device gives the bits that numpy gives."""
    side, count = (64, 2) if options.small else (256, 8)
    shape = (count, 3, side, side)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    on_device = torch.from_numpy(images).to(options.device)
    for methods in CHAINS:
        for size in (2, 4, 16) if methods == ("orthogonal",) else (2, 4, 16, 64, 256):
            if size > side:
                continue
            transform = derive_transform(methods, SUBKEYS, size)
            got = torch_transform(transform, options.device)(on_device).cpu().numpy()
            same = bool(np.array_equal(got, transform.apply(images)))
            yield {"check": "+".join(methods), "block_size": size, "ok": same}


def session_alike(options: argparse.Namespace) -> Row:
    """Whether a sealed bundle answers on the device as it does on the CPU."""
    from runtime import make

    name = "lraspp_mobilenet_v3_large" if options.small else "fcn_mobilenet_v2"
    side = 64 if options.small else 256
    shape = (2, 3, side, side)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        make(name, 21, Path(folder))
        path = Path(folder) / "sealed.mlgb"
        expected = Session.open(path, KEY).predict(images)
        try:
            other = Session.open(path, KEY, provider=options.device)
        except MlguardError as refusal:
            return {"check": "session", "not_run": str(refusal)}
        same = float((other.predict(images) == expected).mean())
        seconds = {
            which: _seconds(lambda s=session: s.predict(images))
            for which, session in (("cpu", Session.open(path, KEY)), ("device", other))
        }
    return {
        "check": "session",
        "provider": other.provider,
        "same_classes": same,
        "seconds": seconds,
        "ok": same > 0.999,
    }


def training_alike(options: argparse.Namespace) -> Row:
    """The losses of the same steps on the CPU and on the device, both in float32."""
    losses = {}
    for device in ("cpu", options.device):
        torch.manual_seed(0)
        model = ARCHITECTURES["fcn_small"](6).to(device).train()
        for layer in model.modules():  # what is dropped differs from device to device
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        transforms = TransformSet(derive_transform(("shf",), SUBKEYS, 4))
        condition = keyed(transforms, device)
        draws = torch.Generator().manual_seed(0)
        taken = []
        for _ in range(STEPS):
            images = torch.randint(
                256, (8, 3, 64, 64), dtype=torch.uint8, generator=draws
            )
            masks = torch.randint(6, (8, 64, 64), generator=draws)
            output = output_of(model, images.to(device), condition, Normalization())
            loss = nn.functional.cross_entropy(logits_of(output), masks.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken.append(float(loss.detach()))
        losses[device] = taken
    apart = max(
        abs(one - other) / one
        for one, other in zip(losses["cpu"], losses[options.device], strict=True)
    )
    return {"check": "training", "steps": STEPS, "apart": apart, "ok": apart < 1e-3}


def bound(options: argparse.Namespace) -> Iterator[Row]:
    """Logits of a bound model under its key beside those of the plain one."""
    models = {"fcn_patch_small": 4} if options.small else PATCH_MODELS
    for name, size in models.items():
        for method in ("shf", "np", "orthogonal"):
            yield bound_alike(name, method, size, options)


def bound_alike(name: str, method: str, size: int, options: argparse.Namespace) -> Row:
    torch.manual_seed(0)
    plain = ARCHITECTURES[name](21).eval()
    model = copy.deepcopy(plain)
    prepare_stem(model, size)
    transforms = TransformSet(derive_transform((method,), SUBKEYS, size))
    fold(model, transforms, Normalization())
    side, device = (64 if options.small else 256), options.device
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8).to(device)
    with torch.inference_mode():
        expected, right, none = (
            logits_of(output_of(one.to(device), images, condition, Normalization()))
            for one, condition in (
                (plain, NO_KEY),
                (model, keyed(transforms, device)),
                (model, NO_KEY),
            )
        )
    largest = float(expected.abs().max())
    apart = float((right - expected).abs().max()) / largest
    return {
        "check": f"{name}, {method}, M={size}",
        "apart": apart,
        "same_classes": _agreement(right, expected),
        "same_classes_without_key": _agreement(none, expected),
        "ok": apart < 1e-3,
    }


def _agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.argmax(1) == other.argmax(1)).float().mean())


def precision(options: argparse.Namespace) -> Iterator[Row]:
    """Train in each precision, in a process of its own."""
    if options.precision:
        yield train_in(options)
        return
    kinds = ("no", "bf16") if options.device == "cpu" else ("no", "bf16", "fp16")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            command = [sys.executable, __file__, "precision", "--out", str(out)]
            command += ["--device", options.device, "--precision", kind]
            command += ["--small"] * options.small
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                yield {"check": kind, "ok": False, "error": last}
            else:
                yield json.loads(out.read_text())[0]


def train_in(options: argparse.Namespace) -> Row:
    """One short training by a `Job`, as `mlguard protect` does it."""
    model, side, images, batch = "fcn_mobilenet_v2", 256, (640, 32, 32), 32
    if options.small:
        model, side, images, batch = "fcn_small", 32, (16, 4, 4), 8
    overrides = [
        f"train.precision={options.precision}",
        f"model.name={model}",
        f"data.size=[{side},{side}]",
        f"data.shapes_images={list(images)}",
        f"train.batch={batch}",
        f"train.epochs={EPOCHS}",
    ]
    recipe = read_recipe("demo", overrides=overrides)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder) / "run", recipe, DataFolder(None), device=options.device)
        run = job.protect(KEY, key_name="measured")
        lines = (run.path / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    return {
        "check": options.precision,
        "model": model,
        "train_loss": last["train_loss"],
        "validation_miou": last["validation_miou"],
        "images_per_second": EPOCHS * images[0] / max(last["seconds"], 0.1),
        "ok": bool(np.isfinite(last["train_loss"])),
    }


def _seconds(work: Any, rounds: int = 5) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


PIECES = {"parity": parity, "bound": bound, "precision": precision}

if __name__ == "__main__":
    main()
