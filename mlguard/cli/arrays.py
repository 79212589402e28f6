"""Read the arrays of an .npz, which a stranger may have made."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.errors import MlguardError

MAX_BYTES = 1 << 34  # 16 GiB of arrays in one file
# zlib: damaged; MemoryError: a header announces too much; RuntimeError: encrypted.
NO_ARRAYS = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
    RuntimeError,
)


def read_arrays(path: Path, refusal: type[MlguardError]) -> dict[str, NDArray[Any]]:
    """Read an .npz, checking its announced sizes before anything is decompressed.

    Args:
        path: The file.
        refusal: What is raised if it is not an .npz of plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise refusal(
                f"{path} announces {size} bytes of arrays, at most {MAX_BYTES} are "
                "allowed"
            )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise refusal(f"{path}: no such file") from None
    except NO_ARRAYS:
        raise refusal(
            f"{path}: expected an .npz file of arrays, one for each input",
            hint="numpy.savez(path, **{name: array})",
        ) from None
