"""Load a graph on the execution provider that was asked for, or refuse.

onnxruntime falls back to the CPU with no more than a line in a log when a GPU cannot be
used. Here that is an error, unless the caller leaves the choice to us.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from mlguard.errors import MalformedBundle, ProviderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
NAMES = {"cpu": CPU, "cuda": CUDA}
AUTO = "auto"

# TF32 keeps 10 bits of the mantissa: masks would differ between CPU and GPU.
OPTIONS: dict[str, dict[str, str]] = {CUDA: {"use_tf32": "0"}}

ERROR, FATAL, WARNING = 3, 4, 2  # onnxruntime's log severities

# onnxruntime's refusals have no common base but Exception.
ORT_ERRORS = (
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NoModel,
    ort.NoSuchFile,
    ort.NotImplemented,
    ort.RuntimeException,
    RuntimeError,
    ValueError,
)


def load_graph(
    graph: bytes,
    *,
    provider: str,
    name: str,
    slots: Mapping[str, NDArray[Any]] | None = None,
) -> onnxruntime.InferenceSession:
    """Load a graph, its key slots filled in memory. Nothing is written to disk.

    Args:
        graph: An ONNX file.
        provider: "cpu", "cuda", "auto", or an execution provider's full name.
        name: What to call the graph in a refusal.
        slots: The tensors of the key slots, by name.

    Raises:
        ProviderError: The provider is unknown, not installed or not usable here.
        MalformedBundle: onnxruntime cannot load the graph.
    """
    wanted = _wanted(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERROR
    if slots:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
        options.add_external_initializers(list(slots), values)
    try:
        with _quiet(silent=wanted[0] != CPU):
            session = onnxruntime.InferenceSession(
                graph,
                options,
                providers=[(one, OPTIONS.get(one, {})) for one in wanted],
                enable_fallback=False,
            )
    except ORT_ERRORS as error:
        # Not chained: the library's message may name paths, and a graph with key
        # slots must not put anything of them into a traceback.
        reason = "" if slots else f": {_first_line(error)}"
        raise MalformedBundle(f"{name} cannot be loaded{reason}") from None
    if provider != AUTO and wanted[0] not in session.get_providers():
        raise ProviderError(f"{wanted[0]} cannot be used on this machine")
    return session


def run_graph(
    session: onnxruntime.InferenceSession, output: str, feed: NDArray[Any]
) -> NDArray[np.float32]:
    """Run a graph of one input and give one of its outputs.

    Raises:
        ProviderError: onnxruntime gave up, for want of memory as a rule.
    """
    (source,) = session.get_inputs()
    try:
        (result,) = session.run([output], {source.name: feed})
    except ORT_ERRORS as error:
        shape = "×".join(map(str, feed.shape))
        raise ProviderError(
            f"cannot run on {shape} pixels: {_first_line(error)}",
            hint="predict smaller images, or fewer at a time",
        ) from None
    return np.asarray(result)


def _wanted(provider: str) -> list[str]:
    """Execution providers to ask for, best first."""
    available = onnxruntime.get_available_providers()
    if provider == AUTO:
        return [one for one in (CUDA, CPU) if one in available]
    name = NAMES.get(provider, provider)
    if name not in available:
        known = ", ".join([*NAMES, AUTO, *available])
        raise ProviderError(f"no provider {provider!r} is installed; known are {known}")
    if name == CUDA and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
            onnxruntime.preload_dlls()
    return [name]


@contextlib.contextmanager
def _quiet(*, silent: bool) -> Iterator[None]:
    """Keep the log of a provider that cannot start from the user: we say it."""
    if silent:
        onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        if silent:
            onnxruntime.set_default_logger_severity(WARNING)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
