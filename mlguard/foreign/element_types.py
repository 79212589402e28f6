"""Read the bytes of a tensor, whichever of ONNX's fields holds them.

Types unknown to numpy (bfloat16, floats of 8 bits, integers of 4 and 2) are bytes like
all others here: nothing is converted. Source: the comments of TensorProto in
onnx/onnx.proto of the ONNX project.
"""

from typing import Any

import numpy as np
from onnx import TensorProto

from mlguard.errors import ModelFileError
from mlguard.sealing import ELEMENT_BITS, tensor_bytes

STRING = TensorProto.STRING
# Fields that hold numbers one by one, and the bytes of one number.
FLOATS: dict[int, str] = {TensorProto.FLOAT: "<f4", TensorProto.COMPLEX64: "<f4"}
DOUBLES: dict[int, str] = {TensorProto.DOUBLE: "<f8", TensorProto.COMPLEX128: "<f8"}
UNSIGNED: dict[int, str] = {TensorProto.UINT32: "<u4", TensorProto.UINT64: "<u8"}


def type_name(element_type: int) -> str:
    """Return ONNX's name of a type, or its number."""
    names: dict[int, str] = {n: name for name, n in TensorProto.DataType.items()}
    return names.get(element_type, f"number {element_type}").lower()


def size_of(tensor: TensorProto, *, name: str) -> int:
    """Return the size in bytes by type and shape; for strings, their number.

    Raises:
        ModelFileError: The type is unknown, or a size is negative.
    """
    if tensor.data_type == STRING:
        return sum(len(text) for text in tensor.string_data)
    if tensor.data_type not in ELEMENT_BITS:
        raise ModelFileError(
            f"{name}: a tensor has type {tensor.data_type}, which this version of "
            "mlguard does not know",
            hint="export the model with a type that onnxruntime runs, such as float32",
        )
    if any(size < 0 for size in tensor.dims):
        raise ModelFileError(f"{name}: a tensor has a negative size")
    return tensor_bytes(tensor.data_type, tuple(tensor.dims))


def bytes_of(tensor: TensorProto, *, name: str) -> Any:
    """Return the little-endian bytes of a tensor inside the model file.

    Raises:
        ModelFileError: Their number does not match type and shape.
    """
    data = tensor.raw_data if tensor.HasField("raw_data") else _typed(tensor)
    if len(data) != (expected := size_of(tensor, name=name)):
        raise ModelFileError(
            f"{name}: a tensor of shape {tuple(tensor.dims)} and type "
            f"{type_name(tensor.data_type)} has {len(data)} bytes, "
            f"expected {expected}",
            hint="the file is damaged; export the model again",
        )
    return data


def _typed(tensor: TensorProto) -> bytes:
    kind = tensor.data_type
    if kind in FLOATS:
        return np.array(tensor.float_data, FLOATS[kind]).tobytes()
    if kind in DOUBLES:
        return np.array(tensor.double_data, DOUBLES[kind]).tobytes()
    if kind in UNSIGNED:
        return np.array(tensor.uint64_data, "<u8").astype(UNSIGNED[kind]).tobytes()
    if kind == TensorProto.INT64:
        return np.array(tensor.int64_data, "<i8").tobytes()
    # All others lie in int32_data: one number each, or one byte of packed ones.
    width = max(1, ELEMENT_BITS.get(kind, 8) // 8)
    return np.array(tensor.int32_data, "<i4").astype(f"<u{width}").tobytes()
