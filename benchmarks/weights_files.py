"""How long does opening a file of weights take, and how much memory?

Side by side, each in a process of its own: the safetensors library on the plain file,
mlguard on the bound one, and CryptoTensors on its own, where that is installed (it is
no dependency: `pip install cryptotensors` where you measure).

    python benchmarks/weights_files.py --megabytes 100 --out weights.json
"""

import argparse
import base64
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from mlguard.keys import ModelKey

KEY = ModelKey(bytes(range(32)))  # obviously no real key
PARTS = ("plain", "bound", "theirs")
WAYS = ("all, numpy", "all, torch", "one tensor, numpy")
TENSOR_BYTES = 1 << 22  # of the large tensors; a tenth as many are of 1 KiB
NAME = "layer.0.weight"


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), options.megabytes)
        found = {
            way: measure(paths, way, repeats=options.repeats)
            for way in WAYS
            if not way.endswith("torch") or has("torch")
        }
    report = {"megabytes": options.megabytes, "repeats": options.repeats, "ways": found}
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, help="a file of JSON")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def write(folder: Path, megabytes: int) -> dict[str, Path]:
    """The same tensors in three files."""
    from safetensors.numpy import save_file

    from mlguard.weights import bind_file

    draw = np.random.default_rng(0)
    large = max(1, megabytes * 1_000_000 // TENSOR_BYTES)
    tensors = {
        f"layer.{i}.weight": draw.standard_normal((1024, TENSOR_BYTES // 4096)).astype(
            "f4"
        )
        for i in range(large)
    }
    tensors |= {
        f"layer.{i}.bias": draw.standard_normal(256).astype("f4")
        for i in range(0, large, 10)
    }
    paths = {part: folder / f"{part}.safetensors" for part in PARTS}
    save_file(tensors, paths["plain"])
    bind_file(paths["plain"], paths["bound"], KEY)
    if has("cryptotensors"):
        from cryptotensors.numpy import save_file as save_theirs

        save_theirs(tensors, paths["theirs"], config=their_keys())
    return {part: path for part, path in paths.items() if path.exists()}


def measure(paths: dict[str, Path], way: str, *, repeats: int) -> dict[str, Any]:
    """In turns, so that a busy moment of the machine hits all alike."""
    found: dict[str, list[dict[str, float]]] = {part: [] for part in paths}
    for _ in range(repeats):
        for part, path in paths.items():
            command = [sys.executable, __file__, "--child", part, way, str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[part].append(json.loads(done.stdout))
    size = paths["plain"].stat().st_size
    table = {
        part: {
            "median_s": round(statistics.median(one["seconds"] for one in runs), 4),
            "fastest_s": round(min(one["seconds"] for one in runs), 4),
            "cpu_s": round(statistics.median(one["cpu_seconds"] for one in runs), 4),
            "peak_over_file": round(
                statistics.median(one["peak_bytes"] for one in runs) / size, 3
            ),
        }
        for part, runs in found.items()
    }
    for part in table:
        for field in ("median_s", "fastest_s", "cpu_s"):
            ratio = table[part][field] / table["plain"][field]
            table[part][f"{field}_over_plain"] = round(ratio, 2)
    return table


def child(part: str, way: str, path: str) -> dict[str, float]:
    """Open one file in this process. Imports are not measured."""
    opening = opener(part, way, path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from now on; Linux
    before = memory("VmRSS")
    began, worked = perf_counter(), process_time()
    tensors = opening()
    checksum = sum(float(one.reshape(-1)[::1024].sum()) for one in tensors)
    seconds, cpu = perf_counter() - began, process_time() - worked
    peak = memory("VmHWM") - before
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "checksum": checksum,
    }


def memory(field: str) -> int:
    """Of this process, in bytes; mapped pages of files count."""
    text = Path("/proc/self/status").read_text()
    (line,) = (one for one in text.splitlines() if one.startswith(field))
    return 1024 * int(line.split()[1])


def opener(part: str, way: str, path: str) -> Callable[[], list[Any]]:
    framework = "pt" if way.endswith("torch") else "np"
    if framework == "pt":
        import torch

        torch.set_num_threads(1)
    names = [NAME] if way.startswith("one") else None
    opened: Callable[[], Any]
    if part == "bound":
        from mlguard.weights import safe_open

        opened = lambda: safe_open(path, KEY, framework)  # noqa: E731
    elif part == "theirs":
        import cryptotensors

        keys = their_keys()
        cryptotensors.register_direct_key_provider(keys=list(keys.values()))
        opened = lambda: cryptotensors.safe_open(path, framework)  # noqa: E731
    else:
        import safetensors

        opened = lambda: safetensors.safe_open(path, framework)  # noqa: E731

    def run() -> list[Any]:
        with opened() as file:
            return [file.get_tensor(name) for name in names or file.keys()]

    return run


def their_keys() -> dict[str, dict[str, str]]:
    """Two JSON Web Keys that are obviously no real ones."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signer = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = signer.public_key().public_bytes_raw()

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    seal = {
        "kty": "oct",
        "alg": "aes256gcm",
        "kid": "seal",
        "k": text(bytes(range(32))),
    }
    sign = {"kty": "okp", "alg": "ed25519", "kid": "sign", "x": text(public)}
    sign["d"] = text(bytes(range(32)))
    return {"enc_key": seal, "sign_key": sign}


def has(package: str) -> bool:
    """Whether a package can be imported."""
    probe = [sys.executable, "-c", f"import {package}"]
    return not subprocess.run(probe, check=False, capture_output=True).returncode


if __name__ == "__main__":
    main()
