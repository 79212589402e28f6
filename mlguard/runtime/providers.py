"""Load a graph on the requested execution provider, or refuse.

When a GPU cannot be used, onnxruntime falls back to the CPU with only a line in a log.
Here that is an error, unless the caller leaves the choice to us.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import MalformedBundle, ProviderError
from mlguard.runtime.options import Compute
from mlguard.runtime.types import ort_tensor
from mlguard.sealing import TensorHeader

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
NAMES = {"cpu": CPU, "cuda": CUDA}
AUTO = "auto"
# Names in the graphs of a bundle; docs/spec/bundle-v1.md, section 4.
PIXELS, VALUES, LOGITS = "pixels", "values", "logits"

# TF32 keeps 10 bits of the mantissa: masks would differ between CPU and GPU.
OPTIONS: dict[str, dict[str, str]] = {CUDA: {"use_tf32": "0"}}

WARNING, FATAL = 2, 4  # onnxruntime's log severities
# What onnxruntime says about a graph that is too new for it.
TOO_NEW = (
    r"Opset (?P<opset>\d+) is under development.* is till opset (?P<till>\d+)"
    r"|model IR version: (?P<ir>\d+), max supported IR version: (?P<most>\d+)"
)


@dataclass
class Outside:
    """The data that a graph gets from outside its file.

    Attributes:
        values: Tensors by name.
        files: Bytes by location, of types that cannot be tensors in Python.
        keyed: Whether key material is among them.
    """

    values: dict[str, onnxruntime.OrtValue] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    keyed: bool = False

    def add_slots(self, slots: Mapping[str, NDArray[Any]]) -> None:
        """Add the tensors of key slots."""
        for name, value in slots.items():
            self.values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(value)
            self.keyed = True

    def add_tensor(
        self, header: TensorHeader, location: str, data: NDArray[np.uint8]
    ) -> None:
        """Add a tensor of the model, whose bytes the graph expects at a location."""
        value = ort_tensor(header.element_type, header.shape, data)
        if value is None:  # several elements in a byte
            self.files[location] = data.tobytes()
        else:
            self.values[header.name] = value

    def give(self, options: onnxruntime.SessionOptions) -> None:
        """Hand everything to the options of a session to be made."""
        if self.values:
            options.add_external_initializers(
                list(self.values), list(self.values.values())
            )
        if self.files:
            contents = list(self.files.values())  # not copied: they must outlive this
            options.add_external_initializers_from_files_in_memory(
                list(self.files), contents, [len(content) for content in contents]
            )


def load_graph(
    graph: bytes,
    *,
    provider: str = "cpu",
    name: str,
    slots: Mapping[str, NDArray[Any]] | None = None,
    threads: int = 0,
) -> onnxruntime.InferenceSession:
    """Load a graph, its key slots filled in memory. Nothing is written to disk.

    Args:
        graph: An ONNX file.
        provider: "cpu", "cuda", "auto", or an execution provider's full name.
        name: The name of the graph in a refusal.
        slots: The tensors of the key slots, by name.
        threads: How many threads compute one image; 0 for onnxruntime's choice.

    Raises:
        ProviderError: The provider is unknown, not installed or not usable here.
        MalformedBundle: onnxruntime cannot load the graph.
    """
    outside = Outside()
    outside.add_slots(slots or {})
    return load(graph, Compute(provider, threads), outside, name=name)


def load(
    graph: bytes,
    compute: Compute,
    outside: Outside,
    *,
    name: str,
    told: bool | None = None,
) -> onnxruntime.InferenceSession:
    """Load a graph and its data from outside.

    Args:
        graph: An ONNX file.
        compute: How to compute.
        outside: Its weights and the tensors of its key slots.
        name: The name of the graph in a refusal.
        told: Whether onnxruntime's own words are shown; by default not if key material
            is among the tensors, since its messages name tensors.

    Raises:
        ProviderError: The provider is unknown, not installed or not usable here, or
            the installed onnxruntime is too old for the graph.
        MalformedBundle: onnxruntime cannot load the graph.
    """
    for candidate in _candidates(compute.provider):
        reason = ""
        options = compute.session_options()
        options.log_severity_level = FATAL  # every error is also raised as an exception
        outside.give(options)
        own = OPTIONS.get(candidate, {}) | dict(compute.provider_options)
        try:
            with _quiet():
                session = onnxruntime.InferenceSession(
                    graph,
                    options,
                    providers=[(candidate, own)],
                    enable_fallback=False,
                )
        except ORT_ERRORS as error:
            reason = first_line(error)
            _refuse_too_new(str(error), name=name)
            continue
        session._model_bytes = b""
        if candidate in session.get_providers():
            return session
    if candidate != CPU:
        raise ProviderError(f"{candidate} cannot be used on this machine")
    shown = not outside.keyed if told is None else told
    raise MalformedBundle(f"{name} cannot be loaded{f': {reason}' if shown else ''}")


def _refuse_too_new(reason: str, *, name: str) -> None:
    """Refuse a graph that is too new for the installed onnxruntime, and not as damaged.

    Raises:
        ProviderError: It is too new.
    """
    found = re.search(TOO_NEW, reason, re.DOTALL)
    if found is None:
        return
    asked, known = found.group("opset") or found.group("ir"), found.group("till")
    what = "opset" if found.group("opset") else "file version"
    raise ProviderError(
        f"{name} needs {what} {asked} of ONNX; the installed onnxruntime "
        f"{onnxruntime.__version__} supports up to {known or found.group('most')}",
        hint="install a newer onnxruntime",
    )


def run_graph(
    session: onnxruntime.InferenceSession, output: str, feed: NDArray[Any]
) -> NDArray[Any]:
    """Run a graph of one input, and return one of its outputs, computing no other.

    Raises:
        ProviderError: onnxruntime failed, usually for lack of memory.
    """
    (source,) = session.get_inputs()
    (result,) = run_feeds(session, [output], {source.name: feed}, partly=True)
    return np.asarray(result)


def run_feeds(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    feeds: Mapping[str, Any],
    *,
    partly: bool = False,
) -> list[Any]:
    """Run a graph, and return some of its outputs.

    Args:
        session: The graph.
        outputs: The names of the outputs.
        feeds: All inputs by name.
        partly: Whether to compute only what these outputs need.

    Raises:
        ProviderError: onnxruntime failed, usually for lack of memory.
    """
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = partly
    try:
        results: list[Any] = session.run(list(outputs), dict(feeds), options)
    except ORT_ERRORS as error:
        arrays = [feed for feed in feeds.values() if isinstance(feed, np.ndarray)]
        shapes = ["×".join(map(str, array.shape)) or "one" for array in arrays]
        raise ProviderError(
            f"cannot run on {', '.join(shapes)} pixels: {first_line(error)}",
            hint="predict smaller images, or fewer at a time",
        ) from None
    return results


def run_values(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    values: Mapping[str, onnxruntime.OrtValue],
) -> list[onnxruntime.OrtValue]:
    """Run a graph as `run_feeds` does, with tensors whose types numpy lacks.

    Raises:
        ProviderError: onnxruntime failed.
    """
    try:
        found: list[onnxruntime.OrtValue] = session.run_with_ort_values(
            list(outputs), dict(values)
        )
    except ORT_ERRORS as error:
        raise ProviderError(f"cannot run: {first_line(error)}") from None
    return found


def _candidates(provider: str) -> list[str]:
    """Return the execution providers to try, best first."""
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the log of a provider that cannot start; our refusal says it."""
    onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNING)


def first_line(error: BaseException) -> str:
    """Return the first line of an onnxruntime message, without its prefix."""
    return str(error).partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
