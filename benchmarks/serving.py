"""What a Triton costs: a sealed bundle behind it, beside the session in this process.

    MLGUARD_TRITON_PYTHON=.triton/bin/python python -m benchmarks.serving \
        [--out docs/results/serving.json] [--rounds 9] [--requests 24]

Three sides, in turn in every round: `Session.predict` called by threads of this
process, a Triton with one instance, and the same Triton's other model with two. A
request is one image; 1, 2 and 4 clients ask at a time, each anew as soon as it has its
answer. All three compute with as many threads in all: two for the session and the one
instance, one for each of the two. What counts are ratios: everything else depends on
the machine. Weights are random: they change no time. Rounds are added to those
that OUT has already. docs/deploy/triton.md makes the environment.
"""

import argparse
import json
import platform
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runtime import KEY, SEALED, make
from keystore import write_private
from keystore.textform import KEY_1, to_text
from mlguard.bundle import Tensor2
from mlguard.keys import ModelKey
from mlguard.runtime import Endpoint, Remote, Session
from mlguard.serving import Served, write_repository
from tests.serving.triton_server import triton, wait_for

MODEL, CLASSES, SIDE = "fcn_mobilenet_v2", 21, 256
CLIENTS = (1, 2, 4)
THREADS = 2  # of the session, and of all instances together
TAKEN = Tensor2(name="images", datatype="UINT8", shape=(-1, 3, -1, -1))
GIVEN = Tensor2(name="classes", datatype="UINT8", shape=(-1, -1, -1))
Predict = Callable[[np.ndarray], np.ndarray]


def repository(folder: Path) -> Path:
    """One bundle twice: with one instance, and with two."""
    write_private(folder / "acme.key", to_text(KEY_1, KEY), comments=["a benchmark's"])
    source = f"file:{folder / 'acme.key'}"
    for count in (1, 2):
        served = Served(
            f"instances{count}", source, instances=count, threads=THREADS // count
        )
        write_repository(folder / SEALED, folder / "models", served)
    return folder / "models"


def asking(address: str, model: str) -> Predict:
    """A client's call of a model at the server."""
    remote = Remote(Endpoint(f"http://{address}", model), [TAKEN], [GIVEN])
    return lambda images: remote.infer({"images": images})["classes"]


def measured(predict: Predict, images: np.ndarray, clients: int, requests: int) -> dict:
    """Latencies in seconds of all requests, and how long all of them took."""
    latencies: list[float] = []

    def work() -> None:
        for _ in range(requests // clients):
            begun = time.perf_counter()
            predict(images)
            latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    return {"seconds": taken, "latencies": [round(one, 5) for one in latencies]}


def rounds_of(
    sides: dict[str, Predict], images: np.ndarray, rounds: int, requests: int
) -> list[dict]:
    """Measure all sides in turn, the order turned round every time."""
    found = []
    for number in range(rounds):
        for clients in CLIENTS:
            for side in list(sides)[:: 1 if number % 2 else -1]:
                one = measured(sides[side], images, clients, requests)
                found.append({"clients": clients, "side": side, **one})
    return found


def summary(found: list[dict]) -> list[dict[str, Any]]:
    """Throughput, median and 99th percentile of each side, and ratios to a session."""
    rows = []
    for clients in CLIENTS:
        here = [one for one in found if one["clients"] == clients]
        names = ("session", "instances1", "instances2")
        facts = {
            name: _facts([one for one in here if one["side"] == name]) for name in names
        }
        for side, own in facts.items():
            ratios = {
                f"{name}_ratio": own[name] / facts["session"][name] for name in own
            }
            rows.append({"clients": clients, "side": side, **own, **ratios})
    return rows


def _facts(rounds: list[dict]) -> dict[str, float]:
    latencies = [value for one in rounds for value in one["latencies"]]
    rates = [len(one["latencies"]) / one["seconds"] for one in rounds]
    return {
        "per_s": statistics.median(rates),
        "p50_s": float(np.percentile(latencies, 50)),
        "p99_s": float(np.percentile(latencies, 99)),
    }


def main() -> None:
    """Start the server, measure, print a table, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    images = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(MODEL, CLASSES, folder)
        (folder / "scratch").mkdir()
        session = Session.open(folder / SEALED, ModelKey(KEY), threads=THREADS)
        with triton(repository(folder), folder / "scratch") as server:
            models = ("instances1", "instances2")
            for model in models:
                assert wait_for(lambda model=model: server.ready(model)), server.log
            sides = {"session": session.predict}
            sides |= {model: asking(server.http, model) for model in models}
            expected = session.predict(images)
            for predict in sides.values():  # the first call of each is not measured
                np.testing.assert_array_equal(predict(images), expected)
            found = rounds_of(sides, images, given.rounds, given.requests)
    if given.out and given.out.exists():
        found = json.loads(given.out.read_text())["raw"] + found
    rows = summary(found)
    for row in rows:
        print(
            f"{row['clients']} clients, {row['side']:10} "
            f"{row['per_s']:6.1f}/s ({row['per_s_ratio']:.2f}), p50 "
            f"{row['p50_s'] * 1e3:.0f} ms ({row['p50_s_ratio']:.2f}), p99 "
            f"{row['p99_s'] * 1e3:.0f} ms ({row['p99_s_ratio']:.2f})"
        )
    if given.out:
        about = {
            "model": MODEL,
            "image": [SIDE, SIDE],
            "rounds": len(found) // (len(CLIENTS) * len(sides)),
            "threads": THREADS,
            "python": platform.python_version(),
        }
        result = {**about, "rows": rows, "raw": found}
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
