"""Predict with a model of any tensors: .npz in, .npz out.

Each input file holds an array for every input, by name; the answer holds one for every
output. An image file serves for the input that is an image.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.cli.arrays import read_arrays
from mlguard.cli.printable import warn
from mlguard.errors import ImageError, MlguardError
from mlguard.files import atomic_write
from mlguard.runtime import Session, read_image
from mlguard.runtime.fit import fit_images

SUFFIX = ".npz"


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
            said = str(refusal)  # a file that cannot be read names itself
            warn(said if said.startswith(str(path)) else f"{path}: {said}")
            refused.append(name)
            continue
        atomic_write(out / f"{name}{SUFFIX}", _packed(answers))
    return refused


def _tensors(session: Session, path: Path) -> dict[str, Any]:
    if path.suffix.lower() == SUFFIX:
        return dict(read_arrays(path, ImageError))
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
