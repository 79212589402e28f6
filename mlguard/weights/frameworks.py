"""Arrays of numpy and tensors of torch from plain bytes, and back.

torch is loaded only where it is asked for. Of bfloat16 and the small floats numpy knows
nothing; the package ml_dtypes, which comes with onnx and jax, does.
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
# What ml_dtypes and torch call the types that numpy does not have.
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
    """Give "np" or "pt" for what the safetensors library calls a framework.

    Raises:
        ValueError: It is another one.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"expected framework 'np' or 'pt', got {name!r}")
    return FRAMEWORKS[name]


def make(entry: Entry, fill: Fill, *, framework: str, device: Any, name: str) -> Any:
    """Make a tensor of a framework, its bytes decrypted where they are to be.

    Args:
        entry: What the tensor is.
        fill: Writes its bytes.
        framework: "np" or "pt".
        device: Of torch: where the tensor goes.
        name: What to call the file in a refusal.

    Raises:
        WeightsError: The framework does not have the type.
        MissingExtra: torch is not installed.
    """
    if framework == "pt":
        return _torch(entry, fill, device, name=name)
    kind = numpy_type(entry.dtype, name=name)
    flat = np.empty(entry.size_bytes, dtype=np.uint8)
    fill(flat)
    return flat.view(kind).reshape(entry.shape)


def numpy_type(dtype: str, *, name: str) -> np.dtype[Any]:
    """The numpy type of what safetensors calls a type.

    Raises:
        WeightsError: Neither numpy has it nor ml_dtypes, which may be missing.
    """
    if dtype in NUMPY:
        return np.dtype(NUMPY[dtype])
    own = _own_types()
    if dtype not in own:
        raise WeightsError(
            f"{name}: numpy has no type {dtype}",
            hint="pip install ml_dtypes, or ask for framework='pt'",
        )
    return own[dtype]


def entry_of(name: str, tensor: Any) -> Entry:
    """What a tensor of numpy or torch is in a file; its place is still open.

    Raises:
        ValueError: Its type is not one that a file can have.
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
    """A tensor's bytes, little-endian and row by row."""
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
            hint="install torch, or ask for framework='np'",
        ) from None
    kind = getattr(torch, TORCH.get(entry.dtype, ""), None)
    if kind is None:
        raise WeightsError(f"{name}: this torch has no type {entry.dtype}")
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
    """The types that ml_dtypes gives numpy; none where it is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return {}
    return {
        dtype: np.dtype(getattr(ml_dtypes, own))
        for dtype, own in ML_DTYPES.items()
        if hasattr(ml_dtypes, own)
    }
