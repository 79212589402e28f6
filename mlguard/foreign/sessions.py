"""Load a model in onnxruntime, as it was and with its tensors beside it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlguard.engine import onnxruntime
from mlguard.sealing import ELEMENT_BITS, PlainTensor

CPU = "CPUExecutionProvider"
FATAL = 4  # onnxruntime's log severity
# Types that OrtValue takes an array for: whole bytes, by the bytes of an element.
ARRAYS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
IN_ITS_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")


def load(
    model: bytes | Path, tensors: Sequence[PlainTensor] = (), *, optimize: bool = True
) -> onnxruntime.InferenceSession:
    """Load a model on one thread of the CPU.

    Args:
        model: An ONNX file, or its bytes.
        tensors: The external data of its initializers.
        optimize: False where only loading matters.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL  # every error is raised as well
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
    _add_tensors(options, tensors)
    return onnxruntime.InferenceSession(model, options, providers=[CPU])


def _add_tensors(
    options: onnxruntime.SessionOptions, tensors: Sequence[PlainTensor]
) -> None:
    whole = [one for one in tensors if ELEMENT_BITS[one.element_type] // 8 in ARRAYS]
    if whole:
        values = [_value(tensor) for tensor in whole]
        options.add_external_initializers([one.name for one in whole], values)
    packed = [one for one in tensors if ELEMENT_BITS[one.element_type] // 8 == 0]
    if packed:  # no array has a shape of half bytes; each is a file of its own
        files = [np.frombuffer(one.data, np.uint8) for one in packed]
        options.add_external_initializers_from_files_in_memory(
            [one.name for one in packed], files, [file.nbytes for file in files]
        )


def _value(tensor: PlainTensor) -> Any:
    width = ARRAYS[ELEMENT_BITS[tensor.element_type] // 8]
    array = np.frombuffer(tensor.data, width).reshape(tensor.shape)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        array, tensor.element_type
    )


def first_line(error: BaseException) -> str:
    """What onnxruntime says, without its prefix and the places in its source."""
    line = str(error).partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
    line = IN_ITS_SOURCE.sub("", line)
    return "".join(c if c.isprintable() else "?" for c in line)[:300]
