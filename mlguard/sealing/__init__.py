"""Seal tensors in place: each becomes ciphertext of its length, under its own key.

The room knows no bundle, no ONNX and no file format, so that any program with its own
file format can use it. docs/spec/sealed-tensors-v1.md is the whole construction.
"""

from mlguard.sealing.file_key import FileKey, new_salt
from mlguard.sealing.seal import (
    TAG_BYTES,
    open_blob,
    open_tensor,
    seal_blob,
    seal_tensor,
)
from mlguard.sealing.tensors import (
    ELEMENT_BITS,
    PlainTensor,
    TensorHeader,
    check_name,
    chunks_of,
    tensor_bytes,
)

__all__ = [
    "ELEMENT_BITS",
    "TAG_BYTES",
    "FileKey",
    "PlainTensor",
    "TensorHeader",
    "check_name",
    "chunks_of",
    "new_salt",
    "open_blob",
    "open_tensor",
    "seal_blob",
    "seal_tensor",
    "tensor_bytes",
]
