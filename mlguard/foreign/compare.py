"""Run a model beside itself on random inputs, and see whether a bit differs."""

import ctypes
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import ModelFileError, ParityError
from mlguard.foreign.sessions import first_line

# Sizes of free axes to try.
SIDES = (64, 224, 32, 128, 256, 640, 16, 8, 4, 1, 512, 576, 1024, 48, 96, 160, 416)
HIGHEST = (2, 256, 1)  # integers to try: ids and masks, then bytes, then zeros
TENSOR = re.compile(r"tensor\((\w+)\)\Z")
ELEMENT_TYPES = {  # how onnxruntime writes a type: numpy's type, ONNX's number
    "float": ("f4", 1),
    "double": ("f8", 11),
    "float16": ("f2", 10),
    "bfloat16": ("u2", 16),
    "uint8": ("u1", 2),
    "int8": ("i1", 3),
    "uint16": ("u2", 4),
    "int16": ("i2", 5),
    "int32": ("i4", 6),
    "int64": ("i8", 7),
    "uint32": ("u4", 12),
    "uint64": ("u8", 13),
    "bool": ("?", 9),
    "float8e4m3fn": ("u1", 17),
    "float8e4m3fnuz": ("u1", 18),
    "float8e5m2": ("u1", 19),
    "float8e5m2fnuz": ("u1", 20),
}
WITHOUT_NUMPY = {"bfloat16", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"}
WITHOUT_NUMPY |= {"float8e4m3fn"}
Load = Callable[[], onnxruntime.InferenceSession]


@dataclass(frozen=True)
class Comparison:
    """How a model and its rewritten self were compared.

    Attributes:
        inputs: Shapes of what they were run on, by name.
        random: Whether the model draws at random and answered otherwise, so that only
            shapes could be compared.
    """

    inputs: dict[str, tuple[int, ...]]
    random: bool = False


def compare(
    original: Load,
    rewritten: Load,
    *,
    name: str,
    random: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Comparison:
    """Refuse a rewritten model that answers another bit. One is in memory at a time.

    Args:
        original: Loads the model as it was.
        rewritten: Loads it without its weights, and the weights.
        name: What to call the model in a refusal.
        random: Whether the model draws at random: its draws depend on how many nodes
            it has.
        example: Inputs to run it on, instead of random ones.

    Raises:
        ModelFileError: No random inputs that fit were found, or the example does not
            fit.
        ParityError: The answers differ.
    """
    feeds, expected = _answers(original(), example, name=name)
    got = run(rewritten(), feeds)
    shapes = {key: np.shape(value) for key, value in feeds.items()}
    if same(expected, got):
        return Comparison(shapes)
    if not random or not same(_shapes(expected), _shapes(got)):
        raise ParityError(
            f"{name}: with its weights outside the graph the model answers otherwise",
            hint="nothing was written; please report the model's exporter",
        )
    return Comparison(shapes, random=True)


def run(session: onnxruntime.InferenceSession, feeds: Mapping[str, Any]) -> list[Any]:
    """Run a model; outputs of types that numpy does not know are their bytes."""
    kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    found = {match[1] for kind in kinds if (match := TENSOR.match(kind))}
    if not found & WITHOUT_NUMPY:
        return list(session.run(None, dict(feeds)))
    values = {
        value.name: _value(feeds[value.name], value.type)
        for value in session.get_inputs()
        if value.name in feeds
    }
    names = [value.name for value in session.get_outputs()]
    return [_content(one) for one in session.run_with_ort_values(names, values)]


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal to the bit, sequences and maps too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(
            same(a, b) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype == object:  # strings
            return bool(np.array_equal(one, other))
        return one.tobytes() == other.tobytes()
    both_nan = one != one and other != other
    return type(one) is type(other) and (one == other or both_nan)


def _answers(
    session: onnxruntime.InferenceSession,
    example: Mapping[str, Any] | None,
    *,
    name: str,
) -> tuple[Mapping[str, Any], list[Any]]:
    last = ""
    for feeds in [example] if example is not None else guesses(session):
        try:
            return feeds, run(session, feeds)
        except ORT_ERRORS as error:
            last = last or first_line(error)
    what = "the example" if example is not None else "random inputs of any size tried"
    raise ModelFileError(
        f"{name}: the model does not run on {what}: {last or 'an input has no tensor'}",
        hint="--example FILE.npz gives one array for each input",
    )


def guesses(session: onnxruntime.InferenceSession) -> Iterator[dict[str, Any]]:
    """Random inputs for a model, likelier sizes first."""
    for highest, side, every in itertools.product(HIGHEST, SIDES, (True, False)):
        draws = np.random.default_rng(0)
        sizes: dict[str, int] = {}
        feeds = {}
        for value in session.get_inputs():
            if (match := TENSOR.match(value.type)) is None:
                return
            shape = _shape(value.shape or [], side, sizes, every=every)
            feeds[value.name] = _draw(draws, match[1], shape, highest)
        yield feeds


def _shape(
    given: list[Any], side: int, sizes: dict[str, int], *, every: bool
) -> tuple[int, ...]:
    """Fill the free axes of a shape.

    Args:
        given: The shape that a model asks for.
        side: What a free axis gets, but for batch and channels.
        sizes: What names of axes stand for; filled on the way.
        every: Whether axes of sequences between the first and the last get it too.
    """
    shape = []
    for axis, size in enumerate(given):
        if isinstance(size, int) and size >= 0:
            shape.append(size)
            continue
        guess = side if every or len(given) > 3 or axis == len(given) - 1 else 1
        if axis == 0:
            guess = 1
        elif len(given) == 4 and axis == 1 and given[3] not in (1, 3):
            guess = 3  # colours, unless they stand last
        if isinstance(size, str) and size:
            parts = [sizes.setdefault(p.strip(), guess) for p in size.split("+")]
            guess = sizes.setdefault(size, sum(parts))
        shape.append(guess)
    return tuple(shape)


def _draw(
    draws: np.random.Generator, kind: str, shape: tuple[int, ...], highest: int
) -> Any:
    if kind == "string":
        return np.full(shape, "a", dtype=object)
    dtype = np.dtype(ELEMENT_TYPES.get(kind, ("f4", 1))[0])
    if dtype.kind == "f":
        return draws.standard_normal(shape).astype(dtype)
    if kind in WITHOUT_NUMPY:  # bits of numbers near 1
        return draws.integers(0, 56, shape).astype(dtype)
    if kind in ("uint8", "int8"):
        highest = 100
    return draws.integers(0, highest, shape).astype(dtype)


def _value(array: Any, kind: str) -> Any:
    match = TENSOR.match(kind)
    number = ELEMENT_TYPES[match[1]][1] if match and match[1] in ELEMENT_TYPES else 0
    if match and match[1] in WITHOUT_NUMPY:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, number)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _content(value: Any) -> Any:
    """An answer's bytes, with its shape and type."""
    if not value.has_value() or not value.is_tensor():
        return value.numpy()
    if value.data_type() == "tensor(string)":
        return value.numpy()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return [value.data_type(), list(value.shape()), data]


def _shapes(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _shapes(value) for key, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [_shapes(value) for value in answer]
    return list(np.shape(answer))
