"""Read bound files with the calls of the safetensors library and a key."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.errors import WeightsError
from mlguard.keys import ModelKey
from mlguard.sealing import TensorHeader
from mlguard.weights.bound import BoundFile, is_bound
from mlguard.weights.file import WeightsFile
from mlguard.weights.frameworks import framework_of, make

PathLike = str | os.PathLike[str]


def load_file(
    path: PathLike, key: ModelKey, *, framework: str = "np", device: Any = "cpu"
) -> dict[str, Any]:
    """Read all tensors of a bound file.

    Args:
        path: The bound file.
        key: The key it was bound to.
        framework: "np" for numpy arrays, "pt" for torch tensors.
        device: The torch device of the tensors.

    Returns:
        The tensors by name, in the order of their bytes, as they were before binding.

    Raises:
        MalformedWeights: The file does not follow the specification.
        WrongKey: It was bound to another key.
        TamperedTensors: It was changed after it was written.
        WeightsError: It cannot be read, or the framework lacks one of its types.
        MissingExtra: torch is needed and not installed.

    Example:
        tensors = load_file("bound.safetensors", key)
    """
    with safe_open(path, key, framework, device) as file:
        return file.get_tensors()


class safe_open:  # noqa: N801  # as the library calls it
    """Open a bound file, and read its tensors on demand.

    Args:
        path: The bound file.
        key: The key it was bound to.
        framework: As for `load_file`.
        device: As for `load_file`.

    Raises:
        MalformedWeights: The file does not follow the specification.
        WrongKey: It was bound to another key.
        TamperedTensors: Its header was changed after it was written.

    Example:
        with safe_open("bound.safetensors", key, framework="pt") as file:
            weight = file.get_tensor("classifier.weight")
    """

    def __init__(
        self,
        path: PathLike,
        key: ModelKey,
        framework: str = "np",
        device: Any = "cpu",
    ) -> None:
        self._framework, self._device = framework_of(framework), device
        self._file = BoundFile(WeightsFile(Path(path)), key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def keys(self) -> list[str]:
        """Return the names of the tensors."""
        return sorted(self._file.entries)

    def offset_keys(self) -> list[str]:
        """Return the names of the tensors, in the order of their bytes."""
        return list(self._file.entries)

    def metadata(self) -> dict[str, str] | None:
        """Return the owner's texts in the file; None if there are none."""
        return dict(self._file.metadata) or None

    def get_tensor(self, name: str) -> Any:
        """Decrypt one tensor.

        Raises:
            WeightsError: There is no such tensor, or the framework lacks its type.
            TamperedTensors: The tensor was changed or moved.
            MissingExtra: torch is needed and not installed.
        """
        entry = self._entry(name)
        return make(
            entry,
            lambda into: self._file.read(name, into),
            framework=self._framework,
            device=self._device,
            name=self._file.name,
        )

    def get_tensors(self) -> dict[str, Any]:
        """Decrypt all tensors. Raises as `get_tensor`."""
        return {name: self.get_tensor(name) for name in self.offset_keys()}

    def get_slice(self, name: str) -> "Slice":
        """Return a tensor for slicing. Raises as `get_tensor`."""
        entry = self._entry(name)
        return Slice(self, name, entry.dtype, entry.shape)

    def _entry(self, name: str) -> Any:
        if name not in self._file.entries:
            raise WeightsError(f"{self._file.name} has no tensor {name!r}")
        return self._file.entries[name]


def raw_tensors(
    path: PathLike, key: ModelKey
) -> Iterator[tuple[TensorHeader, NDArray[np.uint8]]]:
    """Return every tensor of a file, plain or bound, as bytes, whatever its type.

    Args:
        path: A plain .safetensors file, or one that was bound to the key.
        key: The model key; ignored if the file is plain.

    Returns:
        Name, ONNX type and shape of each tensor, and its plain bytes.

    Raises:
        MalformedWeights: The file does not follow the specification.
        WrongKey: It was bound to another key.
        TamperedTensors: It was changed after it was written.
        WeightsError: It cannot be read.
    """
    opened = WeightsFile(Path(path))
    file = BoundFile(opened, key) if is_bound(opened.header) else opened
    for entry in file.entries.values():
        plain = np.empty(entry.size_bytes, dtype=np.uint8)
        file.read(entry.name, plain)
        yield entry.header, plain
    file.close()


class Slice:
    """A tensor whose shape is known but whose bytes are not read yet.

    A tag covers up to 64 MiB, so any slice decrypts the whole tensor.
    """

    def __init__(
        self, file: safe_open, name: str, dtype: str, shape: tuple[int, ...]
    ) -> None:
        self._file, self._name, self._dtype, self._shape = file, name, dtype, shape

    def get_shape(self) -> list[int]:
        """Return the sizes of the axes."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """Return the type, as safetensors calls it."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:
        return self._file.get_tensor(self._name)[index]
