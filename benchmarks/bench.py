"""The quick set of measurements: `make bench`, under ten minutes on two quiet cores.

Runs the programs below one after the other, each in a process of its own and with a
limit, and writes what they found with versions and machine into one JSON file and one
page. A part that fails or takes too long is named and does not stop the others.

    python benchmarks/bench.py --out bench.json --page bench.md
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT_S = 240  # of one part, on two quiet cores
QUIET = 1.5  # a load above this on two cores is somebody else's too
PARTS: dict[str, list[str]] = {
    "numpy transforms": ["numpy_transforms.py"],
    "growth": ["growth.py", "--largest", "64"],
    "memory": ["memory.py", "--model", "fcn_resnet50"],
    "session beside onnxruntime": [
        "runtime.py", "--models", "lraspp_mobilenet_v3_large", "--rounds", "5",
    ],
    "audit and stores beside others": [
        "side_by_side.py", "--sections", "audit,stores", "--turns", "1",
    ],
}  # fmt: skip
PACKAGES = ("mlguard-toolkit", "numpy", "torch", "onnxruntime", "onnx", "cryptography")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--parts", default=";".join(PARTS), help="with semicolons")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="seconds of a part")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "parts": {}}
    for name in options.parts.split(";"):
        results["parts"][name] = run_part(name, options.limit)
        print(f"{name}: {results['parts'][name]['ended']}", flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(results))


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:  # onnxruntime comes under two names
        return version(f"{name}-gpu")


def run_part(name: str, limit_s: int) -> dict[str, Any]:
    """One program: what it printed, what it wrote, and what it took."""
    program, *words = PARTS[name]
    before, begun = _processor_s(), time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "out.json"
        command = [sys.executable, str(HERE / program), *words, "--out", str(out)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=limit_s,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                check=False,
            )
            last = done.stderr.strip().splitlines()[-1:] or [""]
            ended = f"failed: {last[0]:.200}" if done.returncode else "done"
            printed = done.stdout
        except subprocess.TimeoutExpired:
            ended, printed = f"not finished in {limit_s} s", ""
        found = json.loads(out.read_text()) if out.exists() else None
    return {
        "command": " ".join([f"benchmarks/{program}", *words]),
        "ended": ended,
        "wall_s": round(time.monotonic() - begun, 1),
        "processor_s": round(_processor_s() - before, 1),
        "printed": printed,
        "found": found,
    }


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def page(results: dict[str, Any]) -> str:
    """The page: machine, then what every part printed."""
    facts = results["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items())
    lines = [
        "# The quick set",
        "",
        "    make bench",
        "",
        f"{facts['cores']} cores of {facts['processor']}, load {facts['load']} when it"
        f" began; Python {facts['python']}, {versions}. The numbers are in",
        "[bench.json](bench.json); this page is written by the program.",
        "",
    ]
    if facts["load"] > QUIET:
        lines += [
            "**The machine was shared**: times by the clock say nothing, and even the"
            " ratios come from one run on it. Run it again on a quiet one.",
            "",
        ]
    for name, part in results["parts"].items():
        lines += [f"## {name.capitalize()}", "", f"    python {part['command']}", ""]
        lines += [
            f"{part['ended'].capitalize()}: {part['wall_s']} s by the clock,"
            f" {part['processor_s']} s of a processor.",
            "",
        ]
        text = part["printed"].replace("\n### ", "\n").strip()
        table = text.startswith("|")
        lines += [text, ""] if table else ["```text", text, "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
