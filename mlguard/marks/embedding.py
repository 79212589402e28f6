"""Embed a grant's code in weights. docs/spec/marks-v1.md, sections 1 and 3."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.marks.code import UNIT, WORDS, checked, table, words

AMPLITUDE = 0.01  # in deviations of an output channel; docs/results/tracing.md says why
MAX_AMPLITUDE = 0.25
MIN_SIZE = 256  # elements; in fewer, a code says nothing
MIN_COLUMNS = 2  # below it, filters are depthwise
MIN_ROW = 16  # elements of one output channel
SAMPLE = 4096  # elements sampled to tell weights from tables
MIN_DIFFERENT = 0.5  # of the sample; a grid of anchors repeats its numbers
MAX_STEPPED = 0.25  # of an integer row's elements

Array = NDArray[Any]
Tensors = Mapping[str, Array]


def embed(
    tensors: Tensors,
    subkeys: ModelSubkeys,
    grant_id: bytes,
    *,
    amplitude: float = AMPLITUDE,
) -> dict[str, Array]:
    """Return one customer's copy of a model's weights.

    Args:
        tensors: The weights by name; they are not changed.
        subkeys: The subkeys of the protected model.
        grant_id: The grant of the copy, 16 bytes.
        amplitude: The code's amplitude, in standard deviations of each output channel's
            weights.

    Returns:
        The same names, shapes and types. Tensors without a mark are the same objects.

    Raises:
        ValueError: The grant id is not 16 bytes, or the amplitude is not in (0, 1/4].
    """
    return {
        name: mark(name, values, subkeys, grant_id, amplitude=amplitude)
        for name, values in tensors.items()
    }


def mark(
    name: str,
    values: Array,
    subkeys: ModelSubkeys,
    grant_id: bytes,
    *,
    amplitude: float = AMPLITUDE,
) -> Array:
    """Mark one tensor, as `embed` does, for models written tensor by tensor."""
    checked(grant_id)
    if not 0 < amplitude <= MAX_AMPLITUDE:
        raise ValueError(
            f"expected an amplitude above 0 and up to {MAX_AMPLITUDE}, got {amplitude}"
        )
    if not markable(values):
        return values
    scales = amplitude * deviations(values)
    marked = np.ascontiguousarray(values).copy()
    flat, row_size = marked.reshape(-1), values.size // len(values)
    change = _step if values.dtype.kind in "iu" else _shift
    for part, drawn in words(subkeys, grant_id, name, flat.size):
        rows = np.arange(part.start, part.stop) // row_size
        flat[part] = change(flat[part], drawn, scales[rows])
    return marked


def markable(values: Array) -> bool:
    """Whether a tensor holds weights that can carry a code.

    Such a tensor has a type of weights, is large enough, and its rows, one for each
    output channel, read more than one channel: a depthwise filter of nine weights
    matters much to a model and is a small part of its weights. Nor is it a table of few
    different numbers, such as a grid of anchors or a causal mask.
    """
    if values.ndim < 2 or values.size < MIN_SIZE or values.shape[1] < MIN_COLUMNS:
        return False
    if values.size < MIN_ROW * len(values):
        return False
    if values.dtype in (np.int8, np.uint8):
        return True
    if values.dtype not in (np.float16, np.float32, np.float64):
        return False
    sample = values.reshape(-1)[:SAMPLE]
    present = sample[sample != 0]  # zeros of a pruned model do not count
    return len(np.unique(present)) >= MIN_DIFFERENT * len(present) > 0


def deviations(values: Array) -> NDArray[np.float64]:
    """Return the standard deviation of each row, in binary64; 0 where it is not finite.

    It is rounded to binary32, so that the order of the sum does not matter.

    Shape:
        values   (O, …)
        returns  (O,) float64
    """
    rows = values.reshape(len(values), -1)
    step = max(1, (1 << 20) // rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.concatenate(
            [
                rows[i : i + step].astype(np.float64).std(axis=1)
                for i in range(0, len(rows), step)
            ]
        ).astype(np.float32)
    return np.where(np.isfinite(found), found, 0).astype(np.float64)


def _shift(
    values: Array, drawn: NDArray[np.uint16], scales: NDArray[np.float64]
) -> Array:
    """Add the code; zeros stay zeros, so that a pruned model stays pruned."""
    wide = values.astype(np.float64)
    moved = wide + scales * (table()[drawn] / UNIT)
    largest = float(np.finfo(values.dtype).max)
    moved = np.where(np.abs(moved) <= largest, moved, wide)
    return np.where(wide == 0, wide, moved).astype(values.dtype)


def _step(
    values: Array, drawn: NDArray[np.uint16], scales: NDArray[np.float64]
) -> Array:
    """Move the elements with the largest codes by one step, as often as `scales` asks.

    Elements at the end of the type's range stay, and so do zeros.
    """
    shares = np.minimum(MAX_STEPPED, np.square(scales))
    tails = np.floor(WORDS * shares / 2).astype(np.int64)
    steps = (drawn >= WORDS - tails).astype(np.int16) - (drawn < tails)
    limits = np.iinfo(values.dtype)
    moved = values.astype(np.int16) + np.where(values == 0, 0, steps)
    return np.clip(moved, limits.min, limits.max).astype(values.dtype)
