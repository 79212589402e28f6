"""Load a model in onnxruntime, as it was or with its tensors beside it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlguard.engine import onnxruntime
from mlguard.runtime.providers import CPU, FATAL, Outside
from mlguard.runtime.providers import first_line as told_first
from mlguard.sealing import PlainTensor

IN_ITS_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")


def load(
    model: bytes | Path, tensors: Sequence[PlainTensor] = (), *, optimize: bool = True
) -> onnxruntime.InferenceSession:
    """Load a model on one thread of the CPU.

    Args:
        model: An ONNX file, or its bytes.
        tensors: The external data of its initializers.
        optimize: False if only loading matters.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL  # every error is also raised as an exception
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
    _outside(tensors).give(options)
    return onnxruntime.InferenceSession(
        model, options, providers=[CPU], enable_fallback=False
    )


def _outside(tensors: Sequence[PlainTensor]) -> Outside:
    outside = Outside()
    for tensor in tensors:
        # Its location is its name.
        outside.add_tensor(tensor, tensor.name, np.frombuffer(tensor.data, np.uint8))
    return outside


def first_line(error: BaseException) -> str:
    """Return an onnxruntime message, without its prefix and places in its source."""
    line = IN_ITS_SOURCE.sub("", told_first(error))
    return "".join(c if c.isprintable() else "?" for c in line)[:300]
