"""How many foreign ONNX models become torch modules that answer alike?

An audit looks at weights through a torch module. This converts every file of the zoo
with onnx2torch, which is no dependency, and compares answers with onnxruntime's.

    pip install onnx2torch==1.5.15
    python benchmarks/any_model_zoo.py FOLDER
    python benchmarks/white_box.py FOLDER
"""

import argparse
import collections
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any_model import feeds_of

from mlguard.engine import onnxruntime
from mlguard.foreign.compare import run

ALIKE = 1e-3  # of the largest value of an output


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    files = sorted(parser.parse_args().folder.glob("*.onnx"))
    reasons: collections.Counter[str] = collections.Counter()
    for path in files:
        why = converted(path)
        print(f"{path.stem}: {why or 'answers alike'}", flush=True)
        reasons[why or "answers alike"] += 1
    for why, count in reasons.most_common():
        print(f"{count:3} of {len(files)}: {why}")


def converted(path: Path) -> str:
    """Why a file is no module that answers alike; empty if it is one."""
    from onnx2torch import convert

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = feeds_of(session)
    try:
        module = convert(str(path)).eval()
        with torch.no_grad():
            got = module(*(torch.from_numpy(np.asarray(one)) for one in feeds.values()))
    except Exception as error:  # a converter of others: anything can come of it
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"
    expected, given = run(session, feeds), got if isinstance(got, list) else [got]
    pairs = zip(expected, given, strict=True)
    return "" if all(alike(*pair) for pair in pairs) else "answers otherwise"


def alike(expected: Any, got: torch.Tensor) -> bool:
    wanted, found = np.asarray(expected, "f8"), got.double().numpy()
    largest = float(np.abs(wanted).max(initial=0))
    return bool(np.abs(wanted - found).max(initial=0) <= ALIKE * max(largest, 1e-9))


if __name__ == "__main__":
    main()
