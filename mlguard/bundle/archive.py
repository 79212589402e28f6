"""The file: three stored ZIP members whose every byte is fixed by their contents.

Written by hand and not with `zipfile`, which accepts what two readers can read in two
ways and whose output may change between releases. Knows nothing of what the members
mean. Written down in docs/spec/bundle-v1.md, section 1.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from mlguard.errors import MalformedBundle

MANIFEST = "manifest.json"
PREPROCESS = "preprocess.onnx"
MODEL = "model.onnx"

# Name, and the most bytes it may have, in the file's order.
MEMBERS: dict[str, int] = {
    MANIFEST: 1 << 20,  # a page of text
    PREPROCESS: 16 << 20,  # about ten nodes; the key's tensors are not in it
    MODEL: (1 << 31) - 1,  # protocol buffers end there
}
OVERHEAD = 1 << 10  # bytes; above the sum of all headers
MAX_BUNDLE_BYTES = sum(MEMBERS.values()) + OVERHEAD

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION_NEEDED = 10  # ZIP 1.0: stored members
VERSION_MADE_BY = 20
DATE = 0x0021  # 1980-01-01, the first that ZIP can say


def pack(members: Mapping[str, bytes]) -> bytes:
    """Give the file's bytes.

    Raises:
        ValueError: The members are not those of MEMBERS, or one is too large.
    """
    if set(members) != set(MEMBERS):
        raise ValueError(f"expected members {list(MEMBERS)}, got {list(members)}")
    parts, sizes = [], []
    for name, limit in MEMBERS.items():
        content = members[name]
        if len(content) > limit:
            raise ValueError(f"{name} has {len(content)} bytes, at most {limit} fit")
        facts = (zlib.crc32(content), len(content))
        sizes.append(facts)
        parts += [_local_header(name, *facts), content]
    return b"".join([*parts, _directory(sizes)])


def unpack(file: BinaryIO, size: int, *, name: str) -> dict[str, bytes]:
    """Read the members, refusing every file that `pack` would not have written.

    Nothing is read before its announced size is found to be possible.

    Args:
        file: At its start.
        size: How many bytes it has.
        name: What to call it in a refusal.

    Raises:
        MalformedBundle: The file does not follow the specification.
    """
    if size > MAX_BUNDLE_BYTES:
        raise MalformedBundle(
            f"{name} has {size} bytes, a bundle has at most {MAX_BUNDLE_BYTES}"
        )
    members, sizes = {}, []
    for member, limit in MEMBERS.items():
        crc, length = _read_header(file, member, name=name)
        if length > limit:
            raise MalformedBundle(
                f"{name}: {member} announces {length} bytes, at most {limit} fit"
            )
        if length > size - file.tell():
            raise MalformedBundle(f"{name} ends within {member}")
        content = file.read(length)
        if len(content) != length:
            raise MalformedBundle(f"{name} ends within {member}")
        if zlib.crc32(content) != crc:
            raise MalformedBundle(f"{name}: {member} does not have its checksum")
        members[member] = content
        sizes.append((crc, length))
    _read_directory(file, sizes, name=name)
    return members


def _read_header(file: BinaryIO, member: str, *, name: str) -> tuple[int, int]:
    """Checksum and size of the member that must come next."""
    header = file.read(LOCAL.size + len(member))
    if not header.startswith(b"PK\3\4"[: len(header)]):
        if member == MANIFEST:  # the very first bytes
            raise MalformedBundle(
                f"{name} is not a bundle: expected {member}, found no such ZIP member",
                hint="check the path; `mlguard export` writes bundles",
            )
        raise MalformedBundle(f"{name}: expected {member}, found no such ZIP member")
    if len(header) < LOCAL.size + len(member):
        raise MalformedBundle(f"{name} ends before {member}")
    method, crc, length = (LOCAL.unpack_from(header)[i] for i in (3, 6, 8))
    if header[LOCAL.size :] != member.encode():
        raise MalformedBundle(f"{name}: expected {member}, found another member")
    if method:
        raise MalformedBundle(f"{name}: {member} is compressed; it must be stored")
    if header != _local_header(member, crc, length):
        raise MalformedBundle(f"{name}: {member} has an unexpected ZIP header")
    return crc, length


def _read_directory(file: BinaryIO, sizes: list[tuple[int, int]], *, name: str) -> None:
    expected = _directory(sizes)
    found = file.read(len(expected) + 1)
    if len(found) < len(expected):
        raise MalformedBundle(f"{name} ends within its directory")
    if len(found) > len(expected):
        raise MalformedBundle(f"{name} has bytes after its end, or another member")
    if found != expected:
        raise MalformedBundle(f"{name} has an unexpected ZIP directory")


def _local_header(name: str, crc: int, size: int) -> bytes:
    head = LOCAL.pack(b"PK\3\4", *_common(name, crc, size))
    return head + name.encode()


def _directory(sizes: list[tuple[int, int]]) -> bytes:
    entries, offset = b"", 0
    for name, (crc, size) in zip(MEMBERS, sizes, strict=True):
        common = _common(name, crc, size)
        tail = (0, 0, 0, 0, offset)  # comment, disk, attributes twice, local header
        entries += CENTRAL.pack(b"PK\1\2", VERSION_MADE_BY, *common, *tail)
        entries += name.encode()
        offset += LOCAL.size + len(name) + size
    count = len(sizes)
    end = END.pack(b"PK\5\6", 0, 0, count, count, len(entries), offset, 0)
    return entries + end


def _common(name: str, crc: int, size: int) -> tuple[int, ...]:
    """What a local header and a central entry both say."""
    flags, method, time, extra = 0, 0, 0, 0
    stamp = (VERSION_NEEDED, flags, method, time, DATE)
    return (*stamp, crc, size, size, len(name), extra)
