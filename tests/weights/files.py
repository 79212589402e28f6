"""Tensors of every type that a file of weights can have."""

from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save

from mlguard.keys import ModelKey
from mlguard.weights import bind_file

KEY, OTHER = ModelKey(bytes(range(32))), ModelKey(bytes([0x11]) * 32)


def tensors() -> dict[str, np.ndarray]:
    """A few of every shape and kind; numpy's own types."""
    draw = np.random.default_rng(0)
    return {
        "block.weight": draw.standard_normal((4, 3, 2, 2)).astype("f4"),
        "block.half": draw.standard_normal((5,)).astype("f2"),
        "double": draw.standard_normal((2, 2)),
        "steps": draw.integers(-100, 100, (3, 7)).astype("i1"),
        "flags": np.array([True, False, True]),
        "count": np.array(7, dtype="i8"),
        "nothing": np.zeros((0, 3), dtype="f4"),
        "complex": np.array([1 + 2j], dtype="c8"),
        "unsigned": np.arange(4, dtype="u2"),
    }


def small_floats() -> dict[str, np.ndarray]:
    """Of types that numpy alone does not know."""
    values = np.linspace(-2, 2, 12).reshape(3, 4)
    names = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
    return {name: values.astype(getattr(ml_dtypes, name)) for name in names}


def plain(folder: Path, given: dict[str, np.ndarray] | None = None) -> Path:
    path = folder / "plain.safetensors"
    path.write_bytes(save(given or tensors(), metadata={"format": "pt"}))
    return path


def bound(folder: Path, given: dict[str, np.ndarray] | None = None) -> Path:
    path = folder / "bound.safetensors"
    bind_file(plain(folder, given), path, KEY)
    return path
