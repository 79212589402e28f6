"""Load a graph on the execution provider that was asked for, or refuse.

onnxruntime falls back to the CPU with no more than a line in a log when a GPU cannot be
used. Here that is an error, unless the caller leaves the choice to us.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import MalformedBundle, ProviderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
NAMES = {"cpu": CPU, "cuda": CUDA}
AUTO = "auto"
# What the graphs of a bundle give; docs/spec/bundle-v1.md, section 4.
PIXELS, VALUES, LOGITS = "pixels", "values", "logits"

# TF32 keeps 10 bits of the mantissa: masks would differ between CPU and GPU.
OPTIONS: dict[str, dict[str, str]] = {CUDA: {"use_tf32": "0"}}

WARNING, FATAL = 2, 4  # onnxruntime's log severities


def load_graph(
    graph: bytes,
    *,
    provider: str,
    name: str,
    slots: Mapping[str, NDArray[Any]] | None = None,
    threads: int = 0,
) -> onnxruntime.InferenceSession:
    """Load a graph, its key slots filled in memory. Nothing is written to disk.

    Args:
        graph: An ONNX file.
        provider: "cpu", "cuda", "auto", or an execution provider's full name.
        name: What to call the graph in a refusal.
        slots: The tensors of the key slots, by name.
        threads: How many compute one image; 0 leaves onnxruntime the choice.

    Raises:
        ProviderError: The provider is unknown, not installed or not usable here.
        MalformedBundle: onnxruntime cannot load the graph.
    """
    for candidate in _candidates(provider):
        reason = ""
        try:
            with _quiet():
                session = onnxruntime.InferenceSession(
                    graph,
                    _options(slots or {}, threads),
                    providers=[(candidate, OPTIONS.get(candidate, {}))],
                    enable_fallback=False,
                )
        except ORT_ERRORS as error:
            reason = f": {_first_line(error)}"
            continue
        if candidate in session.get_providers():
            return session
    if candidate != CPU:
        raise ProviderError(f"{candidate} cannot be used on this machine")
    # Of a graph with key slots, the library's message is not shown: it names tensors.
    raise MalformedBundle(f"{name} cannot be loaded{'' if slots else reason}")


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


def _candidates(provider: str) -> list[str]:
    """Execution providers to try, best first."""
    available = onnxruntime.get_available_providers()
    if provider == AUTO:
        names = [name for name in (CUDA, CPU) if name in available]
    else:
        names = [NAMES.get(provider, provider)]
    if names[0] not in available:
        known = ", ".join([*NAMES, AUTO, *available])
        raise ProviderError(f"no provider {provider!r} is installed; known are {known}")
    if CUDA in names and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
            onnxruntime.preload_dlls()
    return names


def _options(
    slots: Mapping[str, NDArray[Any]], threads: int
) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL  # every error is raised as well
    if slots:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
        options.add_external_initializers(list(slots), values)
    return options


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of a provider that cannot start from the user: we say it."""
    onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNING)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
