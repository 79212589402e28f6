"""Convert plain bytes to numpy arrays and torch tensors, and back.

torch is loaded only on request. numpy does not know bfloat16 and the small floats; the
package ml_dtypes, which comes with onnx and jax, adds them.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from mlguard.errors import MissingExtra, WeightsError
from mlguard.weights.header import Entry

NUMPY = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2"},
    **{"I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8"},
    **{"F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"},
}
# The names in ml_dtypes and torch of the types that numpy lacks.
ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
TORCH = {
    **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16"},
    **{"I32": "int32", "U32": "uint32", "I64": "int64", "U64": "uint64"},
    **{"F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64"},
    **ML_DTYPES,
    "F4": "float4_e2m1fn_x2",
}
FRAMEWORKS = {"np": "np", "numpy": "np", "pt": "pt", "torch": "pt", "pytorch": "pt"}

Fill = Callable[[Any], None]  # writes a tensor's plain bytes into a buffer


def framework_of(name: str) -> str:
    """Return "np" or "pt" for the safetensors library's name of a framework.

    Raises:
        ValueError: The framework is unknown.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"expected framework 'np' or 'pt', got {name!r}")
    return FRAMEWORKS[name]


def make(entry: Entry, fill: Fill, *, framework: str, device: Any, name: str) -> Any:
    """Make a tensor of a framework, and decrypt its bytes in place.

    Args:
        entry: The tensor's entry in the header.
        fill: Writes its bytes into a buffer.
        framework: "np" or "pt".
        device: The torch device of the tensor.
        name: The name of the file in a refusal.

    Raises:
        WeightsError: The framework lacks the type.
        MissingExtra: torch is not installed.
    """
    if framework == "pt":
        return _torch(entry, fill, device, name=name)
    kind = numpy_type(entry.dtype, name=name)
    flat = np.empty(entry.size_bytes, dtype=np.uint8)
    fill(flat)
    return flat.view(kind).reshape(entry.shape)


def numpy_type(dtype: str, *, name: str) -> np.dtype[Any]:
    """Return the numpy type for a safetensors type.

    Raises:
        WeightsError: numpy lacks it, and ml_dtypes lacks it or is not installed.
    """
    if dtype in NUMPY:
        return np.dtype(NUMPY[dtype])
    own = _own_types()
    if dtype not in own:
        raise WeightsError(
            f"{name}: numpy lacks the type {dtype}",
            hint="install ml_dtypes, or use framework='pt'",
        )
    return own[dtype]


def entry_of(name: str, tensor: Any) -> Entry:
    """Return the entry of a numpy array or torch tensor, without its place in the file.

    Raises:
        ValueError: A file cannot hold its type.
    """
    shape = tuple(int(size) for size in tensor.shape)
    if isinstance(tensor, np.ndarray):
        kind = tensor.dtype.newbyteorder("<") if tensor.dtype.kind != "V" else None
        for dtype, own in (NUMPY | _own_types()).items():
            if (kind or tensor.dtype) == np.dtype(own):
                return Entry(name, dtype, shape)
        raise ValueError(f"tensor {name!r} is of type {tensor.dtype}")
    for dtype, own in TORCH.items():
        if str(tensor.dtype) == f"torch.{own}":
            packed = dtype == "F4"  # torch counts pairs
            doubled = (*shape[:-1], 2 * shape[-1]) if packed and shape else shape
            return Entry(name, dtype, doubled)
    raise ValueError(f"tensor {name!r} is of type {tensor.dtype}")


def buffer_of(tensor: Any) -> Any:
    """Return a tensor's bytes, little-endian and row by row."""
    if isinstance(tensor, np.ndarray):
        little = tensor
        if tensor.dtype.kind in "iufc":
            little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        return np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def _torch(entry: Entry, fill: Fill, device: Any, *, name: str) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtra(
            "torch is not installed",
            hint="install torch, or use framework='np'",
        ) from None
    kind = getattr(torch, TORCH.get(entry.dtype, ""), None)
    if kind is None:
        raise WeightsError(
            f"{name}: this version of torch lacks the type {entry.dtype}"
        )
    shape = entry.shape
    if entry.dtype == "F4":  # torch counts pairs
        shape = (*shape[:-1], shape[-1] // 2)
    flat = torch.empty(entry.size_bytes, dtype=torch.uint8)
    fill(flat.numpy())
    if not math.prod(shape):
        return torch.empty(shape, dtype=kind, device=device)
    return flat.view(kind).reshape(shape).to(device)


@lru_cache(maxsize=1)
def _own_types() -> dict[str, np.dtype[Any]]:
    """Return the types that ml_dtypes adds to numpy; none if it is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return {}
    return {
        dtype: np.dtype(getattr(ml_dtypes, own))
        for dtype, own in ML_DTYPES.items()
        if hasattr(ml_dtypes, own)
    }
