"""Run a model and its rewritten version on random inputs, and compare every bit."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import ModelFileError, ParityError
from mlguard.foreign.sessions import first_line
from mlguard.runtime.types import (
    BITS_OF,
    BITS_OF_WORD,
    ELEMENT_OF,
    NUMPY_OF,
    datatype_of,
    from_ort,
    is_odd,
    to_ort,
)

# Sizes of free axes to try.
SIDES = (64, 224, 32, 128, 256, 640, 16, 8, 4, 1, 512, 576, 1024, 48, 96, 160, 416)
BYTE_HIGHEST = 100  # of 8-bit integers: most of their range
ODD_HIGHEST = 56  # bits of floats without a numpy type: numbers near 1
HIGHEST = (2, 256, 1)  # integers to try: ids and masks, then bytes, then zeros
Load = Callable[[], onnxruntime.InferenceSession]


@dataclass(frozen=True)
class Comparison:
    """How a model and its rewritten version were compared.

    Attributes:
        inputs: The shapes of the inputs used, by name.
        outputs: The shapes of what it answered, by name; () for what is no array.
        random: Whether the model draws random numbers and answered differently, so that
            only shapes could be compared.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    random: bool = False


def compare(
    original: Load,
    rewritten: Load,
    *,
    name: str,
    random: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Comparison:
    """Refuse a rewritten model with different answers. One is in memory at a time.

    Args:
        original: A function that loads the original model.
        rewritten: A function that loads the graph without weights, and the weights.
        name: The model's name in a refusal.
        random: Whether the model draws random numbers, which depend on its number of
            nodes.
        example: Inputs to run it on instead of random ones.

    Raises:
        ModelFileError: The model runs on no random inputs tried, or not on the example,
            or an example and its answers have no element.
        ParityError: The answers differ.
    """
    session = original()
    names = [one.name for one in session.get_outputs()]
    feeds, expected = _answers(session, example, name=name)
    del session
    empty = _nothing(list(feeds.values())) and _nothing(expected)
    if empty or (example is not None and _undefined(expected)):
        held = "inputs and answers of the example are empty"
        if not empty:
            held = "answers to the example are NaN alone"
        raise ModelFileError(
            f"{name}: the {held}, so that nothing would be compared",
            hint="give inputs as the model is used with, a batch of one or more",
        )
    got = run(rewritten(), feeds)
    shapes = {key: np.shape(value) for key, value in feeds.items()}
    answered = {
        key: value.shape if isinstance(value, np.ndarray) else ()
        for key, value in zip(names, expected, strict=True)
    }
    if same(expected, got):
        return Comparison(shapes, answered)
    if not random or not same(_shapes(expected), _shapes(got)):
        raise ParityError(
            f"{name}: with its weights outside the graph, the model answers "
            "differently",
            hint="nothing was written; please report the model and its exporter",
        )
    return Comparison(shapes, answered, random=True)


def run(session: onnxruntime.InferenceSession, feeds: Mapping[str, Any]) -> list[Any]:
    """Run a model; outputs of types that numpy does not know are returned as bytes."""
    values = (*session.get_inputs(), *session.get_outputs())
    if not any(is_odd(value.type) for value in values):
        return list(session.run(None, dict(feeds)))
    given = {
        value.name: to_ort(feeds[value.name], value.type)
        for value in session.get_inputs()
        if value.name in feeds
    }
    names = [value.name for value in session.get_outputs()]
    return [from_ort(one) for one in session.run_with_ort_values(names, given)]


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal bit for bit, sequences and maps too."""
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


def _nothing(values: list[Any]) -> bool:
    """Whether there are tensors, and none of them has an element."""
    return bool(values) and all(
        isinstance(value, np.ndarray) and value.size == 0 for value in values
    )


def _undefined(values: list[Any]) -> bool:
    """Whether there are numbers, and all of them are NaN."""
    return bool(values) and all(
        isinstance(value, np.ndarray)
        and value.size
        and np.issubdtype(value.dtype, np.floating)
        and np.isnan(value).all()
        for value in values
    )


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
        hint="give one array for each input with --example FILE.npz",
    )


def guesses(session: onnxruntime.InferenceSession) -> Iterator[dict[str, Any]]:
    """Yield random inputs for a model, likelier sizes first."""
    for highest, side, every in itertools.product(HIGHEST, SIDES, (True, False)):
        draws = np.random.default_rng(0)
        sizes: dict[str, int] = {}
        feeds = {}
        for value in session.get_inputs():
            if not value.type.startswith("tensor("):
                return  # sequences and maps cannot be guessed
            shape = _shape(value.shape or [], side, sizes, every=every)
            feeds[value.name] = _draw(draws, value.type, shape, highest)
        yield feeds


def _shape(
    given: list[Any], side: int, sizes: dict[str, int], *, every: bool
) -> tuple[int, ...]:
    """Fill the free axes of a shape.

    Args:
        given: The shape that the model declares.
        side: The size of a free axis other than batch and channels.
        sizes: The sizes of named axes; filled on the way.
        every: Whether axes of sequences between the first and the last get this size
            too.
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
            guess = 3  # colours, unless they are the last axis
        if isinstance(size, str) and size:
            parts = [sizes.setdefault(p.strip(), guess) for p in size.split("+")]
            guess = sizes.setdefault(size, sum(parts))
        shape.append(guess)
    return tuple(shape)


def _draw(
    draws: np.random.Generator, word: str, shape: tuple[int, ...], highest: int
) -> Any:
    """Return a random tensor of onnxruntime's type `word`."""
    number = ELEMENT_OF.get(datatype_of(word), BITS_OF_WORD.get(word, 0))
    dtype = NUMPY_OF.get(number, BITS_OF.get(number))
    if dtype is None:
        return None
    if dtype.kind == "O":
        return np.full(shape, "a", dtype=object)
    if dtype.kind == "f":
        return draws.standard_normal(shape).astype(dtype)
    if is_odd(word):
        highest = ODD_HIGHEST
    elif dtype.itemsize == 1 and dtype.kind != "b":
        highest = BYTE_HIGHEST
    return draws.integers(0, highest, shape).astype(dtype)


def _shapes(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _shapes(value) for key, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [_shapes(value) for value in answer]
    return list(np.shape(answer))
