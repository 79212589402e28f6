"""The file of format 2: stored ZIP members, whose headers the manifest fixes.

As in `archive`, but a member may have any size, and the large one is not read whole:
its header is compared with the manifest, and its bytes are opened tensor by tensor. The
specification is docs/spec/bundle-v2.md, section 1.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mlguard.bundle.archive import CENTRAL, DATE, END, LOCAL, check_directory
from mlguard.errors import MalformedBundle

MANIFEST = "manifest.json"
TABLE, SEALED_TABLE = "tensors.json", "tensors.json.enc"
GRAPH, SEALED_GRAPH = "graph.onnx", "graph.onnx.enc"
PREPROCESS = "preprocess.onnx"
WEIGHTS = "weights.bin"
GRANT, SIGNATURE = "grant.json", "model.sig"

# Each name, and the most bytes it may have.
MEMBERS: dict[str, int] = {
    MANIFEST: 4 << 20,  # pages of text, which include up to 65,536 names of classes
    TABLE: 64 << 20,  # a few hundred bytes for each of 100,000 tensors
    SEALED_TABLE: 64 << 20,
    GRAPH: (1 << 31) - 1,  # protocol buffers end there
    SEALED_GRAPH: (1 << 31) - 1,
    PREPROCESS: 16 << 20,  # about ten nodes; the key's tensors are not in it
    WEIGHTS: 1 << 46,  # 64 TiB
    GRANT: 1 << 20,
    SIGNATURE: 1 << 20,
}
ORDER = tuple(MEMBERS)
BESIDE = (GRANT, SIGNATURE)  # not named in the manifest, which is made before them

PAGE = 4096  # the tensors' bytes begin at a multiple of it
SIZES = struct.Struct("<2H2Q")  # of a local header: size twice, in ZIP64's extra field
PLACED = struct.Struct("<2H3Q")  # of a central entry: the same, and the offset
END_64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR_64 = struct.Struct("<4sIQI")
ZIP64, PADDING = 0x0001, 0xD935  # ids of extra fields
PADDING_HEAD = struct.Struct("<2H")
VERSION = 45  # ZIP64
ELSEWHERE_2, ELSEWHERE_4 = 0xFFFF, 0xFFFFFFFF  # "see the ZIP64 field"


@dataclass(frozen=True)
class Member:
    """One member, and where it lies in the file.

    Attributes:
        name: One of MEMBERS.
        size: In bytes.
        crc: The CRC-32 of its content.
        header_at: Where its local header begins.
    """

    name: str
    size: int
    crc: int
    header_at: int

    @property
    def starts_at(self) -> int:
        """Where its content begins."""
        head = self.header_at + LOCAL.size + len(self.name) + SIZES.size
        if self.name != WEIGHTS:
            return head
        return -(-(head + PADDING_HEAD.size) // PAGE) * PAGE

    @property
    def ends_at(self) -> int:
        """Where the next one begins."""
        return self.starts_at + self.size

    def header(self) -> bytes:
        """The local header."""
        extra = SIZES.pack(ZIP64, SIZES.size - 4, self.size, self.size)
        if self.name == WEIGHTS:
            before = self.header_at + LOCAL.size + len(self.name) + len(extra)
            room = self.starts_at - before - PADDING_HEAD.size
            extra += PADDING_HEAD.pack(PADDING, room) + bytes(room)
        common = (*_common(self), len(self.name), len(extra))
        return LOCAL.pack(b"PK\3\4", *common) + self.name.encode() + extra

    def entry(self) -> bytes:
        """The central entry."""
        extra = PLACED.pack(
            ZIP64, PLACED.size - 4, self.size, self.size, self.header_at
        )
        common = (*_common(self), len(self.name), len(extra))
        # No comment, disk 0, no attributes; the offset is in the extra field.
        tail = (0, 0, 0, 0, ELSEWHERE_4)
        head = CENTRAL.pack(b"PK\1\2", VERSION, *common, *tail)
        return head + self.name.encode() + extra


def place(sizes: Iterable[tuple[str, int, int]]) -> list[Member]:
    """Lay out members one after the other, given name, size and checksum of each."""
    members: list[Member] = []
    at = 0
    for name, size, crc in sizes:
        members.append(Member(name, size, crc, at))
        at = members[-1].ends_at
    return members


def directory(members: Sequence[Member]) -> bytes:
    """Return the directory that follows the last member."""
    entries = b"".join(member.entry() for member in members)
    at, count = members[-1].ends_at, len(members)
    body = (VERSION, VERSION, 0, 0, count, count, len(entries), at)
    end_64 = END_64.pack(b"PK\6\6", END_64.size - 12, *body)
    locator = LOCATOR_64.pack(b"PK\6\7", 0, at + len(entries), 1)
    many, far = ELSEWHERE_2, ELSEWHERE_4
    return (
        entries + end_64 + locator + END.pack(b"PK\5\6", 0, 0, many, many, far, far, 0)
    )


def read_first(file: BinaryIO, size: int, *, name: str) -> bytes:
    """Read the manifest's bytes, and nothing else.

    Raises:
        MalformedBundle: The file does not begin as a bundle of format 2 does.
    """
    file.seek(0)
    head = file.read(LOCAL.size + len(MANIFEST) + SIZES.size)
    try:
        announced = SIZES.unpack_from(head, LOCAL.size + len(MANIFEST))[-1]
        crc = LOCAL.unpack_from(head)[6]
    except struct.error:
        raise MalformedBundle(f"{name} ends before {MANIFEST}") from None
    first = Member(MANIFEST, announced, crc, 0)
    check_size(MANIFEST, announced, name=name)
    if head != first.header():
        raise MalformedBundle(f"{name}: {MANIFEST} has an unexpected ZIP header")
    return read_member(file, first, size, name=name)


def read_members(
    file: BinaryIO, size: int, named: Sequence[Member], *, name: str
) -> dict[str, Member]:
    """Find all members, whose headers must be exactly those that the manifest fixes.

    Args:
        file: The bundle.
        size: Its size in bytes.
        named: The manifest and the members that it names, in order.
        name: The name of the file in a refusal.

    Raises:
        MalformedBundle: The file does not follow the specification.
    """
    for member in named:
        check_size(member.name, member.size, name=name)
        _check_header(file, member, size, name=name)
    members = [*named, *_read_beside(file, size, named[-1].ends_at, name=name)]
    file.seek(members[-1].ends_at)
    check_directory(file, directory(members), name=name)
    return {member.name: member for member in members}


def read_member(file: BinaryIO, member: Member, size: int, *, name: str) -> bytes:
    """Read a member whole.

    Raises:
        MalformedBundle: The file ends within it, or its checksum does not match.
    """
    if member.ends_at > size:
        raise MalformedBundle(f"{name} ends within {member.name}")
    file.seek(member.starts_at)
    content = file.read(member.size)
    if len(content) != member.size:
        raise MalformedBundle(f"{name} ends within {member.name}")
    if zlib.crc32(content) != member.crc:
        raise MalformedBundle(f"{name}: the checksum of {member.name} does not match")
    return content


def check_size(member: str, size: int, *, name: str) -> None:
    """Refuse a size before memory for it is allocated.

    Raises:
        MalformedBundle: It is larger than such a member can be.
    """
    if size > MEMBERS[member]:
        raise MalformedBundle(
            f"{name}: {member} announces {size} bytes, at most {MEMBERS[member]} are "
            "allowed"
        )


def _check_header(file: BinaryIO, member: Member, size: int, *, name: str) -> None:
    if member.ends_at > size:
        raise MalformedBundle(f"{name} ends within {member.name}")
    file.seek(member.header_at)
    expected = member.header()
    if file.read(len(expected)) != expected:
        raise MalformedBundle(f"{name}: {member.name} has an unexpected ZIP header")


def _read_beside(file: BinaryIO, size: int, at: int, *, name: str) -> list[Member]:
    """Find the members that the manifest does not name: each at most once, in order."""
    found: list[Member] = []
    for beside in BESIDE:
        length = LOCAL.size + len(beside) + SIZES.size
        file.seek(at)
        head = file.read(length)
        if not head.startswith(b"PK\3\4") or len(head) < length:
            continue
        if head[LOCAL.size : LOCAL.size + len(beside)] != beside.encode():
            continue
        announced = SIZES.unpack_from(head, LOCAL.size + len(beside))[-1]
        member = Member(beside, announced, LOCAL.unpack_from(head)[6], at)
        check_size(beside, announced, name=name)
        _check_header(file, member, size, name=name)
        read_member(file, member, size, name=name)
        found.append(member)
        at = member.ends_at
    return found


def _common(member: Member) -> tuple[int, ...]:
    """Return the fields that local header and central entry share, up to the sizes."""
    flags, method, time = 0, 0, 0
    stamp = (VERSION, flags, method, time, DATE)
    return (*stamp, member.crc, ELSEWHERE_4, ELSEWHERE_4)
