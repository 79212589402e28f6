"""What a customer's file costs: issuing it, and opening it beside plain onnxruntime.

    python benchmarks/issuing.py [--model fcn_resnet50] [--rounds 9] [--out FILE]

Each side is opened in a new process, the three in turn: onnxruntime on the plain file,
the issued file with an identity, and the same where a signer is pinned, so that every
byte of the file is hashed. Processor seconds are given beside wall-clock seconds: on
a busy machine they are what to look at.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runtime import KEY, MODELS, PLAIN, SEALED, make, plain_session, resident

ISSUED, IDENTITY, SIGNER = "issued.mlgb", "me.identity", "owner.pub"
SIDES = ("plain", "issued", "pinned")
FACTS = ("open_s", "cpu_s", "peak_mib", "held_mib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fcn_resnet50", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--open", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_once(options.open[0], Path(options.open[1]))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(options.model, MODELS[options.model], folder)
        found: dict[str, Any] = {"model": options.model, "rounds": options.rounds}
        found |= issue_once(folder)
        found["opening"] = openings(folder, options.rounds)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def issue_once(folder: Path) -> dict[str, Any]:
    """Issue the file; what it took, and how large it is."""
    from keystore import Identity
    from mlguard.bundle import glimpse_bundle
    from mlguard.cli.parties import Customer
    from mlguard.grants import Terms
    from mlguard.issuing import issue
    from mlguard.keys import ModelKey
    from mlguard.signing import SigningKey

    me, signer = Identity.generate(), SigningKey.generate()
    me.write(folder / IDENTITY)
    (folder / SIGNER).write_bytes(signer.public.pem)
    begun, cpu = time.perf_counter(), time.process_time()
    done = issue(
        glimpse_bundle(folder / SEALED),  # type: ignore[arg-type]
        ModelKey(KEY),
        signer,
        Customer.read(me.recipient),
        Terms("Customer"),
        folder / ISSUED,
    )
    size = (folder / ISSUED).stat().st_size
    return {
        "plain_mb": (folder / PLAIN).stat().st_size / 1e6,
        "issued_mb": size / 1e6,
        "issue_s": time.perf_counter() - begun,
        "issue_cpu_s": time.process_time() - cpu,
        "marked": done.cost.marked if done.cost else 0,
        "largest_change": done.cost.largest if done.cost else 0,
    }


def openings(folder: Path, rounds: int) -> dict[str, Any]:
    """Medians of each side, and ratios to the plain one."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--open", side, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side].append(json.loads(done.stdout))
    result: dict[str, Any] = {}
    for fact in FACTS:
        values = {s: statistics.median(one[fact] for one in found[s]) for s in SIDES}
        ratios = {f"{s}_ratio": values[s] / values["plain"] for s in SIDES[1:]}
        result[fact] = values | ratios
    return result


def open_once(side: str, folder: Path) -> dict[str, float]:
    """Open one side in this process; importing is not measured."""
    from keystore import Identity
    from mlguard.issuing import Conditions
    from mlguard.runtime import Session
    from mlguard.signing import read_signer

    identity = Identity.read(folder / IDENTITY)
    signer = read_signer((folder / SIGNER).read_bytes(), name=SIGNER)
    before, begun, cpu = resident(peak=False), time.perf_counter(), time.process_time()
    if side == "plain":
        kept: Any = plain_session(folder / PLAIN)
    else:
        conditions = Conditions(signers=[signer] if side == "pinned" else [])
        kept = Session.open(folder / ISSUED, identity, conditions=conditions)
    taken, worked = time.perf_counter() - begun, time.process_time() - cpu
    peak, held = resident(peak=True) - before, resident(peak=False) - before
    del kept
    return {"open_s": taken, "cpu_s": worked, "peak_mib": peak, "held_mib": held}


if __name__ == "__main__":
    main()
