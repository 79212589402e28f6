"""Turn an ONNX file into a graph without weights, and the weights.

Both together compute what the model did, bit for bit: they run beside it before
anything is written. The module knows nothing of keys and bundles.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import ModelFileError
from mlguard.foreign.compare import Comparison, compare
from mlguard.foreign.data_files import DataFiles, HeldData
from mlguard.foreign.inputs import check_names, drop_unused, settle_inputs
from mlguard.foreign.move import external_names, move_tensors
from mlguard.foreign.read import check_original, read_model, serialized
from mlguard.foreign.scrub import nodes_of, scrub
from mlguard.foreign.sessions import first_line, load
from mlguard.foreign.take import Emptied, Uncovered, take_tensors
from mlguard.sealing import PlainTensor

# How onnxruntime names a tensor that it refuses as external data.
NAMED = (
    re.compile(r"external data into raw data for tensor: (\S+)"),
    re.compile(r"existing initializer with name (\S+?)\.?$"),
)
# Operators that draw random numbers.
RANDOM = {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"}
RANDOM |= {"RandomUniform", "RandomUniformLike"}
SHAPES = "onnxruntime reads it to work out shapes"


@dataclass(frozen=True)
class Signature:
    """An input or output.

    Attributes:
        name: Its name in the model.
        kind: Its type, as onnxruntime names it.
        shape: Its sizes, None or a name if free; None if it is not a tensor.
    """

    name: str
    kind: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Lifted:
    """A model in two parts.

    Attributes:
        graph: An ONNX file. Its weights are external data without a file; the location
            of each is its name.
        tensors: The weights.
        uncovered: The tensors that stay in the graph, except the smallest.
        small_bytes: The size of the smallest tensors in bytes.
        inputs: The inputs of the model.
        outputs: The outputs of the model.
        comparison: How the two parts were compared with the model.
    """

    graph: bytes = field(repr=False)
    tensors: tuple[PlainTensor, ...]
    uncovered: tuple[Uncovered, ...]
    small_bytes: int
    inputs: tuple[Signature, ...] = ()
    outputs: tuple[Signature, ...] = ()
    comparison: Comparison | None = None

    @property
    def covered_bytes(self) -> int:
        """The size of the weights in bytes."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def share(self) -> float:
        """The share of covered bytes in all bytes of tensors."""
        left = sum(one.size_bytes for one in self.uncovered) + self.small_bytes
        return self.covered_bytes / max(1, self.covered_bytes + left)


def lift_file(
    path: Path,
    *,
    freeze_inputs: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Lifted:
    """Read an ONNX file, take its weights out, and run it with and without.

    Args:
        path: The file; its data files lie in its folder.
        freeze_inputs: Whether to turn default values of inputs into constants.
        example: Inputs to run it on, by name; None for random ones.

    Raises:
        ModelFileError: The installed onnxruntime does not run the file, or it cannot be
            taken apart.
        ParityError: With its weights outside, the model answers differently.
    """
    name = str(path)
    model = read_model(path)
    lifted = lift_model(
        model,
        folder=path.parent,
        name=name,
        freeze_inputs=freeze_inputs,
        original=path,
        example=example,
    )
    if not lifted.tensors and not lifted.uncovered:
        raise ModelFileError(
            f"{name}: there are no weights to protect: all tensors together have "
            f"{lifted.small_bytes} bytes",
            hint="a key protects weights, and this model has none",
        )
    return lifted


def lift_model(
    model: ModelProto,
    *,
    name: str,
    folder: Path | None = None,
    held: Sequence[Any] | None = None,
    freeze_inputs: bool = False,
    original: Path | bytes | None = None,
    example: Mapping[str, Any] | None = None,
    smallest: bool = False,
) -> Lifted:
    """Take the weights out of a model.

    Args:
        model: The model; its tensors are removed.
        name: Its name in a refusal.
        folder: The folder of its data files.
        held: Data of its tensors that is in memory; the location of each is its number.
        freeze_inputs: Whether to turn default values of inputs into constants.
        original: The same model, for the comparison; None leaves that to the caller.
        example: As in `lift_file`.
        smallest: Whether to take the smallest tensors too: shapes, axes, scales.

    Raises:
        ModelFileError: The model cannot be taken apart.
        ParityError: With its weights outside, the model answers differently.
    """
    try:
        files = DataFiles(folder, name) if held is None else HeldData(held, name)
        emptied = _emptied(model, files, freeze_inputs, smallest)
    except UnicodeDecodeError:
        raise ModelFileError(
            f"{name}: a name in the model is not UTF-8",
            hint="the file is damaged; export the model again",
        ) from None
    if original is not None:
        check_original(original, emptied.model, name=name)
    emptied.model = scrub(emptied.model)
    drop_unused(emptied.model.graph)
    lifted = _lift(emptied, name=name)
    if original is None:
        return lifted
    comparison = compare(
        lambda: load(original),
        lambda: load(lifted.graph, lifted.tensors),
        name=name,
        random=any(node.op_type in RANDOM for node in nodes_of(emptied.model.graph)),
        example=example,
    )
    return replace(lifted, comparison=comparison)


def _emptied(
    model: ModelProto, files: DataFiles, freeze_inputs: bool, smallest: bool
) -> Emptied:
    check_names(model, name=files.name)
    settle_inputs(model, freeze=freeze_inputs, name=files.name)
    return take_tensors(model, files, smallest=smallest)


def _lift(emptied: Emptied, *, name: str) -> Lifted:
    """Move as many tensors as onnxruntime accepts; note the reason for the others."""
    names = external_names(emptied)
    numbers = {external: number for number, external in enumerate(names)}
    kept: dict[int, str] = {}
    while True:
        lifted = _without(emptied, names, kept)
        loaded, problem = _try(lifted)
        if loaded is not None:
            return replace(
                lifted,
                inputs=tuple(map(_signature, loaded.get_inputs())),
                outputs=tuple(map(_signature, loaded.get_outputs())),
            )
        found = {numbers[one] for one in _named(problem) if one in numbers} - set(kept)
        if not found:
            found = {_search(emptied, names, kept, name=name)}
        kept |= dict.fromkeys(found, _reason(problem))


def _without(emptied: Emptied, names: Sequence[str], kept: Mapping[int, str]) -> Lifted:
    model, moved = move_tensors(emptied, names, kept)
    tensors = tuple(
        PlainTensor(names[n], one.element_type, one.shape, one.data)
        for n, one in enumerate(emptied.taken)
        if n in moved
    )
    left = tuple(
        Uncovered(emptied.taken[n].name, emptied.taken[n].size_bytes, reason)
        for n, reason in sorted(kept.items())
    )
    return Lifted(
        serialized(model),
        tensors,
        (*emptied.uncovered, *left),
        emptied.small_bytes,
    )


def _try(lifted: Lifted) -> tuple[onnxruntime.InferenceSession | None, str]:
    """Load a model in two parts, or return onnxruntime's reason against it."""
    try:
        return load(lifted.graph, lifted.tensors, optimize=False), ""
    except ORT_ERRORS as error:
        return None, first_line(error)


def _signature(value: Any) -> Signature:
    shape = value.shape if value.type.startswith("tensor(") else None
    return Signature(value.name, value.type, None if shape is None else tuple(shape))


def _named(problem: str) -> set[str]:
    return {match[1] for pattern in NAMED if (match := pattern.search(problem))}


def _reason(problem: str) -> str:
    return SHAPES if NAMED[0].search(problem) else f"onnxruntime says: {problem}"


def _search(
    emptied: Emptied, names: Sequence[str], kept: Mapping[int, str], *, name: str
) -> int:
    """Find a tensor that onnxruntime refuses, if it does not say which.

    Raises:
        ModelFileError: It does not load the model even with no tensor moved.
    """
    everything = dict.fromkeys(range(len(emptied.taken)), "") | dict(kept)
    loaded, problem = _try(_without(emptied, names, everything))
    if loaded is None:
        raise ModelFileError(
            f"{name}: onnxruntime cannot load the model without its exporter's names "
            f"and notes: {problem}"
        )
    order = [number for number in range(len(emptied.taken)) if number not in kept]
    good, bad = 0, len(order)  # this many moved load, this many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        stay = dict.fromkeys(order[middle:], "") | dict(kept)
        if _try(_without(emptied, names, stay))[0] is not None:
            good = middle
        else:
            bad = middle
    return order[good]
