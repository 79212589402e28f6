"""What does a key cost a foreign ONNX model? Ratios of two things measured in one run.

Every ONNX file of a folder is exported to a bundle, and bundle and file are opened and
run in turns, each with its peak of memory in a process of its own. Beside them, where
CryptoTensors is installed, it loads the same tensors. Times are seconds of the CPU, one
thread each, so that what else the machine does counts less.

    python benchmarks/any_model_zoo.py FOLDER         # random weights
    python benchmarks/any_model.py FOLDER docs/results/any_model.json
    python benchmarks/any_model.py --opening FOLDER opening.json
    python benchmarks/any_model.py --page docs/results/any_model.json

A result that stands in the JSON file is not measured again. Aims: all weights covered,
no difference, opening 1.1, running 1.02, memory 1.3, and 1.0 over CryptoTensors.
"""

import argparse
import base64
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.engine import onnxruntime
from mlguard.errors import MlguardError
from mlguard.foreign import export_file
from mlguard.foreign.compare import guesses, run, same
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from mlguard.runtime.providers import FATAL
from mlguard.runtime.types import NUMPY_OF

KEY = ModelKey(bytes(range(32)))
OPENS, MIN_RUNS, RUN_S = 7, 5, 0.5
CRYPTOTENSORS = "cryptotensors"
Timed = Callable[[], Any]


def main() -> None:
    options = parse()
    if options.probe:
        probe(options.probe, options.folder)
    elif options.page:
        print(page(json.loads(options.page.read_text())))
    else:
        measure_all(options.folder, options.out, opening_alone=options.opening)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--opening", action="store_true", help="time opening alone")
    parser.add_argument("--page", type=Path, help="print the tables of a JSON file")
    parser.add_argument("--probe", choices=["plain", "bundle"], help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_all(folder: Path, out: Path, *, opening_alone: bool) -> None:
    found = json.loads(out.read_text()) if out.exists() else {"models": {}}
    found["machine"] = machine()
    for path in sorted(folder.glob("*.onnx")):
        if path.stem in found["models"]:
            continue
        try:
            with tempfile.TemporaryDirectory() as place:
                row = measure(path, Path(place), opening_alone=opening_alone)
        except MlguardError as refusal:
            row = {"refused": str(refusal)}
        found["models"][path.stem] = row
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(path.stem, row, flush=True)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "load": round(os.getloadavg()[1], 1),  # when the last of them was measured
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "cryptotensors": version(CRYPTOTENSORS) if has_cryptotensors() else None,
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def measure(path: Path, place: Path, *, opening_alone: bool) -> dict[str, Any]:
    """One model: how much is covered, what differs, and what it costs."""
    bundle = place / "m.mlgb"
    begun = time.perf_counter()
    done = export_file(path, KEY, bundle)
    lifted = done.lifted
    row: dict[str, Any] = {
        "megabytes": round(lifted.covered_bytes / 1e6, 2),
        "tensors": len(lifted.tensors),
        "share": round(lifted.share, 6),
        "left": sorted({one.reason for one in lifted.uncovered}),
        "export_s": round(time.perf_counter() - begun, 2),
    }
    del lifted, done
    opened = opening(path, bundle)
    row |= opened
    if not opening_alone:
        row |= running(path, bundle)
        row |= {f"memory_{k}": v for k, v in memory(path, bundle).items()}
    if has_cryptotensors():
        row |= beside_cryptotensors(bundle, place)
    return row


def in_turns(one: Timed, other: Timed, times: int) -> tuple[float, float]:
    """CPU seconds of two things done in turns: the least, without the first turn."""
    spent: tuple[list[float], list[float]] = [], []
    for turn in range(times + 1):
        for thing, seconds in zip((one, other), spent, strict=True):
            begun = time.process_time()
            made = thing()
            if turn:
                seconds.append(time.process_time() - begun)
            del made
    return min(spent[0]), min(spent[1])


def plain_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )


def keyed_session(bundle: Path) -> Session:
    return Session.open(bundle, KEY, threads=1)


def opening(path: Path, bundle: Path) -> dict[str, float]:
    keyed, plain = in_turns(
        lambda: keyed_session(bundle), lambda: plain_session(path), OPENS
    )
    return {
        "open_plain_s": round(plain, 4),
        "open": round(keyed / plain, 4),
    }


def feeds_of(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Random inputs that the model takes."""
    for feeds in guesses(session):
        try:
            run(session, feeds)
        except Exception:
            continue
        return feeds
    raise SystemExit("no inputs fit")


def running(path: Path, bundle: Path) -> dict[str, Any]:
    plain, keyed = plain_session(path), keyed_session(bundle)
    feeds = feeds_of(plain)
    begun = time.perf_counter()
    expected = plain.run(None, feeds)
    once = time.perf_counter() - begun
    got = list(keyed.run(feeds).values())
    times = max(MIN_RUNS, min(400, int(RUN_S / max(once, 1e-4))))
    run_keyed, run_plain = in_turns(
        lambda: keyed.run(feeds), lambda: plain.run(None, feeds), times
    )
    return {
        "equal": same(expected, got),
        "difference": largest(expected, got),
        "run_plain_s": round(run_plain, 6),
        "run": round(run_keyed / run_plain, 4),
    }


def largest(expected: list[Any], got: list[Any]) -> float:
    """The largest difference of two answers' numbers."""
    pairs = zip(expected, got, strict=True)
    return max(
        float(np.abs(np.asarray(a, "f8") - np.asarray(b, "f8")).max(initial=0))
        for a, b in pairs
    )


def memory(path: Path, bundle: Path) -> dict[str, float]:
    """Peaks of a process that opens and runs once, over one that only imports."""
    peaks = {}
    for what, file in (("plain", path), ("bundle", bundle)):
        line = [sys.executable, __file__, "--probe", what, str(file)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        before, peak = map(int, done.stdout.split())
        peaks[what] = (peak - before) / 1024
    return {
        "plain_mb": round(peaks["plain"], 1),
        "ratio": round(peaks["bundle"] / max(peaks["plain"], 1e-3), 3),
    }


def probe(what: str, file: Path) -> None:
    before = peak_kb()
    session = plain_session(file) if what == "plain" else keyed_session(file)
    inner = session if what == "plain" else session._session
    feeds = feeds_of(inner)
    session.run(None, feeds) if what == "plain" else session.run(feeds)
    print(before, peak_kb())


def peak_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


def has_cryptotensors() -> bool:
    import importlib.util

    return importlib.util.find_spec(CRYPTOTENSORS) is not None


def beside_cryptotensors(bundle: Path, place: Path) -> dict[str, float]:
    """Time to open all tensors from the bundle, over CryptoTensors' to load them."""
    from cryptotensors.numpy import load_file, save_file

    keys = cryptotensors_keys()
    tensors = {}
    for row, data in opened_tensors(bundle):
        dtype = NUMPY_OF.get(row.header.element_type)
        if dtype is None:  # CryptoTensors' numpy side has only numpy's types
            return {}
        tensors[row.header.name] = data.view(dtype).reshape(row.header.shape)
    config = dict(zip(("enc_key", "sign_key"), keys, strict=True))
    save_file(tensors, place / "m.safetensors", config=config)
    loaded = load_file(place / "m.safetensors")
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)
    del tensors, loaded
    ours, theirs = in_turns(
        lambda: list(opened_tensors(bundle)),
        lambda: load_file(place / "m.safetensors"),
        OPENS,
    )
    return {
        "tensors_s": round(ours, 4),
        "over_cryptotensors": round(ours / theirs, 4),
    }


def opened_tensors(bundle: Path) -> Any:
    read = glimpse_bundle(bundle)
    assert isinstance(read, Bundle2)
    unlocked = read.unlock(KEY)
    return unlocked.tensors(unlocked.graph().rows)


def cryptotensors_keys() -> list[dict[str, str]]:
    import cryptotensors
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pair = Ed25519PrivateKey.generate()
    text = {"kty": "oct", "alg": "aes256gcm", "kid": "enc", "k": b64(os.urandom(32))}
    sign = {
        "kty": "okp",
        "alg": "ed25519",
        "kid": "sign",
        "d": b64(pair.private_bytes_raw()),
        "x": b64(pair.public_key().public_bytes_raw()),
    }
    cryptotensors.register_tmp_key_provider(keys=[text, sign])
    return [text, sign]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


COLUMNS = (
    ("model", None),
    ("MB", "megabytes"),
    ("tensors", "tensors"),
    ("covered", "share"),
    ("difference", "difference"),
    ("open", "open"),
    ("run", "run"),
    ("memory", "memory_ratio"),
    ("÷ CryptoTensors", "over_cryptotensors"),
)


def page(found: dict[str, Any]) -> str:
    """The table of the results page, and what is in the middle of every column."""
    rows = found["models"]
    lines = [
        "| " + " | ".join(title for title, _ in COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for name, row in sorted(rows.items()):
        cells = [name, *(cell(key, row.get(key)) for _, key in COLUMNS[1:] if key)]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for title, key in COLUMNS[5:]:
        values = sorted(row[key] for row in rows.values() if key in row)
        if values:
            lines.append(
                f"{title}: {values[0]:.2f} to {values[-1]:.2f}, "
                f"in the middle {statistics.median(values):.3f}"
            )
    return "\n".join(lines)


def cell(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "share":
        return f"{value:.2%}"
    if key in ("megabytes", "tensors"):
        return f"{value:g}"
    return "0" if value == 0 else f"{value:.3f}"


if __name__ == "__main__":
    main()
