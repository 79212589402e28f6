"""Types of tensors by ONNX's numbers, onnxruntime's names and numpy's types.

numpy does not know some of them. Their values are passed as unsigned integers with the
same bits: uint16 for bfloat16, uint8 for floats of 8 bits.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import Tensor2
from mlguard.engine import onnxruntime
from mlguard.errors import ShapeError

FLOAT, UINT8, UINT16, INT64, STRING = 1, 2, 4, 7, 8
FLOAT16, DOUBLE, BFLOAT16 = 10, 11, 16

# ONNX's number, the Open Inference Protocol's datatype, onnxruntime's name, numpy's.
_TYPES: tuple[tuple[int, str, str, str | None], ...] = (
    (1, "FP32", "float", "f4"),
    (2, "UINT8", "uint8", "u1"),
    (3, "INT8", "int8", "i1"),
    (4, "UINT16", "uint16", "u2"),
    (5, "INT16", "int16", "i2"),
    (6, "INT32", "int32", "i4"),
    (7, "INT64", "int64", "i8"),
    (8, "BYTES", "string", "O"),
    (9, "BOOL", "bool", "?"),
    (10, "FP16", "float16", "f2"),
    (11, "FP64", "double", "f8"),
    (12, "UINT32", "uint32", "u4"),
    (13, "UINT64", "uint64", "u8"),
    (16, "BF16", "bfloat16", None),
)
ELEMENT_OF = {datatype: number for number, datatype, _, _ in _TYPES}
DATATYPE_OF = {f"tensor({word})": datatype for _, datatype, word, _ in _TYPES}
NUMPY_OF: dict[int, np.dtype[Any]] = {
    number: np.dtype(code) for number, _, _, code in _TYPES if code
}
NUMPY_WORDS = {f"tensor({word})" for _, _, word, code in _TYPES if code}
# Whole bytes, whose bits numpy can hold without knowing their meaning.
BITS_OF: dict[int, np.dtype[Any]] = {
    16: np.dtype("u2"),
    **{number: np.dtype("u1") for number in (17, 18, 19, 20, 24)},
}
BITS_OF_WORD = {
    "tensor(bfloat16)": 16,
    "tensor(float8e4m3fn)": 17,
    "tensor(float8e4m3fnuz)": 18,
    "tensor(float8e5m2)": 19,
    "tensor(float8e5m2fnuz)": 20,
    "tensor(float8e8m0)": 24,
}


def datatype_of(word: str) -> str:
    """Return the manifest's name of one of onnxruntime's types."""
    return DATATYPE_OF.get(word, word)


def ort_tensor(
    kind: int, shape: tuple[int, ...], data: NDArray[np.uint8]
) -> onnxruntime.OrtValue | None:
    """Return a tensor for onnxruntime over the given bytes, without a copy.

    Args:
        kind: ONNX's number of the type.
        shape: The tensor's shape.
        data: Its bytes.

    Returns:
        The tensor; None if elements are smaller than a byte, which numpy cannot hold.
    """
    if kind in NUMPY_OF:
        array = data.view(NUMPY_OF[kind]).reshape(shape)
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    if kind in BITS_OF:
        array = data.view(BITS_OF[kind]).reshape(shape)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)
    return None


def fed(value: Any, about: Tensor2) -> Any:
    """Return a tensor for onnxruntime, or refuse it in the manifest's terms.

    Raises:
        ShapeError: Its type or its sizes differ.
    """
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return value  # lists, OrtValues, nothing: onnxruntime says what is wrong
    number = ELEMENT_OF.get(about.datatype, 0)
    asked = NUMPY_OF.get(number, BITS_OF.get(number))
    texts = asked == np.dtype(object) and value.dtype.kind in "OU"
    sizes = about.shape
    fits = sizes is None or (
        len(sizes) == value.ndim
        and all(a in (-1, b) for a, b in zip(sizes, value.shape, strict=True))
    )
    if not fits or (asked is not None and value.dtype != asked and not texts):
        wanted = "any shape" if sizes is None else list(sizes)
        raise ShapeError(
            f"tensor {about.name!r}: expected {about.datatype} of {wanted}, got "
            f"{value.dtype} of {list(value.shape)}"
        )
    return value


def is_odd(word: str) -> bool:
    """Whether numpy has no type for one of onnxruntime's tensors."""
    return word.startswith("tensor(") and word not in NUMPY_WORDS


def to_ort(value: Any, word: str) -> onnxruntime.OrtValue:
    """Return the value to feed to an input of onnxruntime's type `word`."""
    if isinstance(value, onnxruntime.OrtValue):
        return value
    array, bits = np.asarray(value), BITS_OF_WORD.get(word)
    if bits is None or array.dtype != BITS_OF[bits]:  # onnxruntime says what is wrong
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, bits)


def from_ort(value: onnxruntime.OrtValue) -> Any:
    """Return onnxruntime's value as numpy's, or as unsigned integers of its bits."""
    word = value.data_type()
    bits = BITS_OF_WORD.get(word)
    if not is_odd(word):
        return value.numpy()
    size = value.tensor_size_in_bytes()
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    if bits is None:  # several elements in a byte: left packed
        return np.frombuffer(raw, np.uint8).copy()
    return np.frombuffer(raw, BITS_OF[bits]).reshape(value.shape()).copy()
