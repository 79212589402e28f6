"""Read a leaked file as plain tensors: a bundle, an ONNX or a safetensors file.

This is for the owner only: for .onnx it needs the package onnx, which comes with the
extra `train`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import Bundle2, FileSecrets, glimpse_bundle
from mlguard.errors import BundleError, WeightsError
from mlguard.issuing.float_types import values_of
from mlguard.issuing.issue import secrets_of
from mlguard.issuing.opening import grant_of
from mlguard.keys import ModelKey
from mlguard.weights import raw_tensors

Tensors = dict[str, NDArray[Any]]


def tensors_of_leak(
    path: Path, key: ModelKey, known: Mapping[str, str] | None = None
) -> Tensors:
    """Return the weights in a file, by their names there.

    Args:
        path: A `.mlgb` that this key's owner wrote or issued, `.onnx` or
            `.safetensors`.
        key: The owner's model key.
        known: The grant id of every issued file, by the SHA-256 of its manifest; it is
            needed where a leaker has removed the grant.

    Raises:
        WeightsError: The file is of another kind, or cannot be read.
        BundleError: It is a bundle that cannot be read.
        WrongKey: It is another owner's bundle.
    """
    suffix = path.suffix.lower()
    if suffix == ".mlgb":
        return tensors_of_bundle(path, key, known)
    if suffix == ".safetensors":
        return _numbers(raw_tensors(path, key))  # bound to the key too
    if suffix == ".onnx":
        return _of_onnx(path)
    raise WeightsError(
        f"cannot read weights from {path}",
        hint="give a .mlgb, .onnx or .safetensors file; convert others to one of these",
    )


def tensors_of_bundle(
    path: Path, key: ModelKey, known: Mapping[str, str] | None = None
) -> Tensors:
    """Return the weights of the owner's bundle, or of one that he issued.

    Args:
        path: The bundle.
        key: The owner's model key.
        known: The grant id of every issued file, by the SHA-256 of its manifest; it is
            needed where a leaker has removed the grant.

    Raises:
        BundleError: It cannot be read, or is of format 1.
        WrongKey: It belongs to another owner.
        TamperedBundle: It was changed.
    """
    bundle = glimpse_bundle(path)
    if not isinstance(bundle, Bundle2):
        raise BundleError(f"{path} is of format 1, which cannot be issued")
    opener: ModelKey | FileSecrets = key
    if bundle.manifest.issued:
        subkeys = key.for_model(bytes.fromhex(bundle.manifest.protection_id))
        grant_id = (known or {}).get(bundle.digest)
        opener = secrets_of(bundle, subkeys, grant_id or grant_of(bundle).grant_id)
    opened = bundle.unlock(opener)
    pairs = ((row.header, data) for row, data in opened.tensors(opened.graph().rows))
    return _numbers(pairs)


def _of_onnx(path: Path) -> Tensors:
    from mlguard.foreign import lift_file

    return _numbers(
        (tensor.header, np.frombuffer(tensor.data, np.uint8))
        for tensor in lift_file(path).tensors
    )


def _numbers(tensors: Any) -> Tensors:
    found = ((header.name, values_of(header, data)) for header, data in tensors)
    return {name: values for name, values in found if values is not None}
