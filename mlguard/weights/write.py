"""Write a bound file: tensors are encrypted one by one, and never touch a disk plain.

docs/spec/weights-v1.md, section 3.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mlguard.errors import WeightsError
from mlguard.files import fill_new, refuse_existing
from mlguard.keys import ModelKey, ModelSubkeys, new_protection_id
from mlguard.sealing import FileKey, check_name, new_salt, seal_tensor
from mlguard.weights.bound import (
    MAC,
    PREFIX,
    bound_metadata,
    header_mac,
    is_bound,
    tag_count,
)
from mlguard.weights.file import WeightsFile
from mlguard.weights.frameworks import buffer_of, entry_of
from mlguard.weights.header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    METADATA,
    Entry,
    check_size,
    write_header,
)

Read = Callable[[Entry], Any]  # a buffer of one tensor's plain bytes


def bind_file(source: Path, out: Path, key: ModelKey) -> bytes:
    """Bind a plain .safetensors file to a key.

    Args:
        source: The plain file; it stays as it is.
        out: The bound file to write; it must not exist yet.
        key: The key that opens it from now on.

    Returns:
        The protection id of the bound file, 16 bytes.

    Raises:
        MalformedWeights: The plain file does not follow the specification.
        WeightsError: It cannot be read, or is bound already.
        OutputExists: Something is already at `out`.
        OutputError: There is no space, or the folder is not writable.
    """
    refuse_existing(out)
    file = WeightsFile(source)
    if is_bound(file.header):
        raise WeightsError(
            f"{source} is already bound to a key",
            hint="bind the plain file; `mlguard.weights.load_file` opens this one",
        )

    def read(entry: Entry) -> bytearray:
        plain = bytearray(entry.size_bytes)
        file.read(entry.name, plain)
        return plain

    try:
        return write_bound(out, file.header.metadata, file.header.entries, read, key)
    finally:
        file.close()


def save_file(
    tensors: Mapping[str, Any],
    path: str | os.PathLike[str],
    key: ModelKey,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors into a bound file, like `safetensors.numpy.save_file`.

    Args:
        tensors: numpy arrays or torch tensors, by name.
        path: The file to write; it must not exist yet.
        key: The key that opens it.
        metadata: Texts that stay readable; they may not begin with "mlguard.".

    Raises:
        WeightsError: The file cannot hold one of the tensors or names.
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    try:
        entries = lay_out(tensors)
        given = _checked(metadata or {})
    except ValueError as problem:
        raise WeightsError(f"{path}: {problem}") from None
    write_bound(
        Path(path), given, entries, lambda one: buffer_of(tensors[one.name]), key
    )


def lay_out(tensors: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Give every tensor its place: the widest types first, then by name.

    Raises:
        ValueError: The file cannot hold one of the tensors or names.
    """
    entries = [entry_of(name, one) for name, one in tensors.items()]
    widths = {one.name: max(1, _item_bytes(tensors[one.name])) for one in entries}
    entries.sort(key=lambda one: (-widths[one.name], one.name))
    placed, at = [], 0
    for one in entries:
        check_name(one.name)
        if one.name == METADATA:
            raise ValueError(f"the format keeps the name {METADATA!r} for itself")
        check_size(one)
        placed.append(Entry(one.name, one.dtype, one.shape, at))
        at = placed[-1].stop
    return tuple(sorted(placed, key=lambda one: (one.start, one.stop, one.name)))


def write_bound(
    out: Path,
    metadata: Mapping[str, str],
    entries: Sequence[Entry],
    read: Read,
    key: ModelKey,
) -> bytes:
    """Write a bound file whole or not at all.

    Args:
        out: The file to write; it must not exist yet.
        metadata: The owner's metadata.
        entries: The tensors in the order of their bytes.
        read: Reads a tensor's plain bytes into a buffer.
        key: The model key.

    Returns:
        The protection id of the file, 16 bytes.

    Raises:
        WeightsError: The header is larger than readers accept.
        OutputExists: Something is already at `out`.
        OutputError: There is no space, or the folder is not writable.
    """
    subkeys = key.for_model(new_protection_id())

    def fill(file: BinaryIO) -> None:
        _write(file, metadata, tuple(entries), read, subkeys, name=str(out))

    fill_new(out, fill)
    return subkeys.protection_id


def _write(
    file: BinaryIO,
    metadata: Mapping[str, str],
    entries: tuple[Entry, ...],
    read: Read,
    subkeys: ModelSubkeys,
    *,
    name: str,
) -> None:
    """Leave room for the header, write the tensors, then the header with tags."""
    salt = new_salt()
    key = FileKey.of_owner(subkeys, salt)
    zeros = bytes(16 * tag_count(entries))
    header = _header(metadata, entries, bound_metadata(subkeys, salt, key, zeros))
    if len(header) - LENGTH_BYTES > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{name}: its header would have {len(header)} bytes, at most "
            f"{MAX_HEADER_BYTES} are allowed",
            hint="split the tensors into several files",
        )
    file.write(header)
    tags: list[bytes] = []
    for index, one in enumerate(entries):
        tags += seal_tensor(key, index, one.header, read(one), file)
    own = bound_metadata(subkeys, salt, key, b"".join(tags))
    header = _header(metadata, entries, own)
    own[MAC] = header_mac(key, header[LENGTH_BYTES:]).hex()
    file.seek(0)
    file.write(_header(metadata, entries, own))


def _header(
    metadata: Mapping[str, str], entries: tuple[Entry, ...], own: Mapping[str, str]
) -> bytes:
    return write_header({**metadata, **own}, entries)


def _checked(metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"metadata are texts by name, got {key!r}: {value!r}")
        if key.startswith(PREFIX):
            raise ValueError(f"metadata may not be called {key!r}")
    return metadata


def _item_bytes(tensor: Any) -> int:
    return int(getattr(tensor, "itemsize", 1))
