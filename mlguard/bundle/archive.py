"""The file of format 1: three stored ZIP members, whose contents fix every byte.

It is written by hand and not with `zipfile`, which accepts files that two readers read
differently, and whose output may change between releases. The module does not know what
the members mean. Its specification is docs/spec/bundle-v1.md, section 1.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from mlguard.errors import MalformedBundle
from mlguard.kinds import but_is

MANIFEST = "manifest.json"
PREPROCESS = "preprocess.onnx"
MODEL = "model.onnx"
SEALED_MODEL = "model.onnx.enc"

# Each name, and the most bytes it may have.
MEMBERS: dict[str, int] = {
    MANIFEST: 1 << 20,  # a page of text
    PREPROCESS: 16 << 20,  # about ten nodes; the key's tensors are not in it
    MODEL: (1 << 31) - 1,  # protocol buffers end there
    SEALED_MODEL: (1 << 31) - 1,  # and what one call of AES-GCM allows
}
# The file's order: which members can be first, second and third.
PLACES = ((MANIFEST,), (PREPROCESS,), (MODEL, SEALED_MODEL))
OVERHEAD = 1 << 10  # bytes; above the sum of all headers
MAX_BUNDLE_BYTES = OVERHEAD + sum(
    max(MEMBERS[name] for name in place) for place in PLACES
)

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
NEEDED = (3, 6, 8, 9)  # of a local header: method, checksum, size, length of the name
VERSION_NEEDED = 10  # ZIP 1.0: stored members
VERSION_MADE_BY = 20
DATE = 0x0021  # 1980-01-01, the earliest that ZIP can express

Member = tuple[str, int, int]  # name, checksum, size in bytes


def pack(members: Mapping[str, bytes]) -> bytes:
    """Return the file's bytes. Raises as `parts_of`."""
    return b"".join(parts_of(members))


def parts_of(members: Mapping[str, bytes]) -> list[bytes]:
    """Return the file's bytes in parts, the members as they were given.

    Raises:
        ValueError: The members are not those of PLACES, or one is too large.
    """
    order = [name for place in PLACES for name in place if name in members]
    if len(order) != len(PLACES) or set(order) != set(members):
        raise ValueError(f"expected one member of each of {PLACES}, got {[*members]}")
    parts, facts = [], []
    for name in order:
        content, limit = members[name], MEMBERS[name]
        if len(content) > limit:
            raise ValueError(
                f"{name} has {len(content)} bytes, at most {limit} are allowed"
            )
        facts.append((name, zlib.crc32(content), len(content)))
        parts += [_local_header(*facts[-1]), content]
    return [*parts, _directory(facts)]


def unpack(file: BinaryIO, size: int, *, name: str) -> dict[str, bytes]:
    """Read the members, refusing every file that `pack` would not have written.

    Nothing is read before its announced size was checked.

    Args:
        file: The file, at its start.
        size: Its size in bytes.
        name: The name of the file in a refusal.

    Raises:
        MalformedBundle: The file does not follow the specification.
    """
    _check_total(size, name=name)
    members, facts = {}, []
    for place in PLACES:
        (member, crc, length), content = _read_member(file, place, size, name=name)
        members[member] = content
        facts.append((member, crc, length))
    check_directory(file, _directory(facts), name=name)
    return members


def _read_member(
    file: BinaryIO, place: Sequence[str], size: int, *, name: str
) -> tuple[Member, bytes]:
    """Read the member that must come next: its header and its content."""
    member, crc, length = _read_header(file, place, name=name)
    if length > MEMBERS[member]:
        raise MalformedBundle(
            f"{name}: {member} announces {length} bytes, at most {MEMBERS[member]} "
            "are allowed"
        )
    if length > size - file.tell():
        raise MalformedBundle(f"{name} ends within {member}")
    content = file.read(length)
    if len(content) != length:
        raise MalformedBundle(f"{name} ends within {member}")
    if zlib.crc32(content) != crc:
        raise MalformedBundle(f"{name}: the checksum of {member} does not match")
    return (member, crc, length), content


def unpack_first(file: BinaryIO, size: int, *, name: str) -> bytes:
    """Read the first member, the manifest, and nothing else, as `unpack` does.

    Raises:
        MalformedBundle: The file does not follow the specification.
    """
    _check_total(size, name=name)
    return _read_member(file, PLACES[0], size, name=name)[1]


def _check_total(size: int, *, name: str) -> None:
    if size > MAX_BUNDLE_BYTES:
        raise MalformedBundle(
            f"{name} has {size} bytes, expected at most {MAX_BUNDLE_BYTES}"
        )


def _read_header(
    file: BinaryIO, place: Sequence[str], *, name: str
) -> tuple[str, int, int]:
    """Read name, checksum and size of the member that must come next."""
    expected = " or ".join(place)
    header = file.read(LOCAL.size)
    if not header.startswith(b"PK\3\4"[: len(header)]):
        hint = None
        if MANIFEST in place:  # the very first bytes
            name = f"{name} is not a bundle{but_is(header)}"
            hint = "check the path; `mlguard export` writes bundles"
        raise MalformedBundle(
            f"{name}: expected {expected}, found something that is not such a ZIP "
            "member",
            hint=hint,
        )
    if len(header) < LOCAL.size:
        raise MalformedBundle(f"{name} ends before {expected}")
    method, crc, length, name_length = (LOCAL.unpack_from(header)[i] for i in NEEDED)
    found = file.read(min(name_length, max(map(len, place))))
    if len(found) < name_length and not file.read(1):
        raise MalformedBundle(f"{name} ends before {expected}")
    if len(found) != name_length or found not in [each.encode() for each in place]:
        raise MalformedBundle(f"{name}: expected {expected}, found another member")
    member = found.decode()
    if method:
        raise MalformedBundle(f"{name}: {member} is compressed; it must be stored")
    if header + found != _local_header(member, crc, length):
        raise MalformedBundle(f"{name}: {member} has an unexpected ZIP header")
    return member, crc, length


def check_directory(file: BinaryIO, expected: bytes, *, name: str) -> None:
    """Refuse a file whose remaining bytes are not exactly the expected directory.

    Raises:
        MalformedBundle: The bytes differ, or there are too few or too many.
    """
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


def _directory(facts: Sequence[Member]) -> bytes:
    entries, offset = b"", 0
    for name, crc, size in facts:
        common = _common(name, crc, size)
        tail = (0, 0, 0, 0, offset)  # comment, disk, attributes twice, local header
        entries += CENTRAL.pack(b"PK\1\2", VERSION_MADE_BY, *common, *tail)
        entries += name.encode()
        offset += LOCAL.size + len(name) + size
    count = len(facts)
    end = END.pack(b"PK\5\6", 0, 0, count, count, len(entries), offset, 0)
    return entries + end


def _common(name: str, crc: int, size: int) -> tuple[int, ...]:
    """Return the fields that a local header and a central entry share."""
    flags, method, time, extra = 0, 0, 0, 0
    stamp = (VERSION_NEEDED, flags, method, time, DATE)
    return (*stamp, crc, size, size, len(name), extra)
