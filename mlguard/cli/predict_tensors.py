"""Predict with a model of any tensors: .npz in, .npz out.

Each input file holds an array for every input, by name; the answer holds one for every
output. An image file serves for the input that is an image.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.cli.printable import warn
from mlguard.errors import ImageError, MlguardError
from mlguard.files import atomic_write
from mlguard.runtime import Session, read_image
from mlguard.runtime.fit import fit_images

SUFFIX = ".npz"
MAX_BYTES = 1 << 34  # 16 GiB of arrays in one file


def run_all(session: Session, paths: dict[str, Path], out: Path) -> list[str]:
    """Write the answers, continuing after a file that is refused.

    Args:
        session: The opened bundle.
        paths: Input files by the names of their answers.
        out: Where the answers go.

    Returns:
        The names of the refused files; the reasons are on standard error.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    refused = []
    for name, path in paths.items():
        try:
            answers = session.run(_tensors(session, path))
        except MlguardError as refusal:
            warn(f"{path}: {refusal}")
            refused.append(name)
            continue
        atomic_write(out / f"{name}{SUFFIX}", _packed(answers))
    return refused


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz, checking its announced sizes before anything is decompressed.

    Raises:
        ImageError: It is not an .npz of plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise ImageError(
                f"{path} announces {size} bytes of arrays, at most {MAX_BYTES} are "
                "allowed"
            )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError):
        raise ImageError(
            f"{path}: expected an .npz file of arrays, one for each input",
            hint="numpy.savez(path, **{name: array})",
        ) from None


def _tensors(session: Session, path: Path) -> dict[str, Any]:
    if path.suffix.lower() == SUFFIX:
        return dict(read_arrays(path))
    if session.image is None:
        expected = ", ".join(f"{one.name} {one.datatype}" for one in session.inputs)
        raise ImageError(
            f"the bundle does not take images; expected an .npz of {expected}",
            hint="its owner says with `mlguard export --about` which input is an image",
        )
    fitted, _ = fit_images(read_image(path, notice=warn), session.image)
    return {"images": fitted}


def _packed(answers: dict[str, Any]) -> bytes:
    """Return the answers as an .npz; a sequence's items are numbered."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in answers.items():
        items = {name: value}
        if isinstance(value, list):
            items = {f"{name}.{number}": item for number, item in enumerate(value)}
        for called, item in items.items():
            array = np.asarray(item)
            arrays[called] = array.astype(str) if array.dtype == object else array
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    return packed.getvalue()
