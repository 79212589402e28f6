"""Say what a bound file shows to everybody, without any key."""

from pathlib import Path
from typing import Any

from mlguard.weights.bound import FORMAT, PREFIX, Binding
from mlguard.weights.file import WeightsFile


def describe_file(path: Path) -> dict[str, Any]:
    """Return the public facts of a bound file; none of them is authenticated.

    Raises:
        WeightsError: The file cannot be read.
        MalformedWeights: It is not bound, or does not follow the specification.
    """
    file = WeightsFile(path)
    try:
        header = file.header
        binding = Binding.of(header, name=file.name)
    finally:
        file.close()
    return {
        "format": int(FORMAT),
        "key_id": binding.key_id,
        "protection_id": binding.protection_id.hex(),
        "tensors": len(header.entries),
        "size": header.data_bytes,
        "metadata": {
            key: value
            for key, value in header.metadata.items()
            if not key.startswith(PREFIX)
        },
    }
