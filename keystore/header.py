"""The file around the payload: magic line, checksum, header, MAC.

Everything here can be read without a secret, and nothing here is trusted before the MAC
is checked. Both formats are read; format 2 is written. docs/spec/keystore-v1.md,
sections 1, 3 and 5; docs/spec/keystore-v2.md.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from keystore.canonical import MAX_INTEGER, Fields, decode, encode
from keystore.chain import MAX_LINKS, Link, read_chain
from keystore.errors import MalformedKeystore, TamperedKeystore
from keystore.sealing import (
    OVERHEAD_BYTES,
    Altered,
    NotThisKey,
    Secret,
    derive,
    seal_parts,
)
from keystore.sealing import unseal as open_sealed
from keystore.slots import MAX_SLOTS, Slot, read_slots

MAGIC = b"mlguard keystore 2\n"
OLD_MAGIC = b"mlguard keystore 1\n"  # of the same length
ANY_VERSION = b"mlguard keystore "
OLD_SUITE = "hkdf-sha512+aes-256-gcm+argon2id"
SUITES = {1: OLD_SUITE, 2: f"hpke+ed25519+{OLD_SUITE}"}
FORMAT = 2
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = {1: 64 * 1024, 2: 1024 * 1024}
STORE_ID_BYTES = 16
DIGEST_DIGITS = 64
# All that `claimed` needs.
CLAIM_BYTES = len(MAGIC) + DIGEST_DIGITS + MAX_HEADER_BYTES[FORMAT] + 2
FIELDS = ("generation", "slots", "store_id", "suite", "version")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a store says about itself without being opened."""

    store_id: bytes
    generation: int
    slots: tuple[Slot, ...]
    chain: tuple[Link, ...] = ()
    version: int = FORMAT

    @property
    def key_id(self) -> str:
        """The key id of the store key; empty in format 1."""
        return self.chain[-1].key if self.chain else ""

    def encode(self) -> bytes:
        """Return the header line, without its line end."""
        return encode(
            {
                "chain": [link.to_json() for link in self.chain],
                "generation": self.generation,
                "slots": [slot.to_json() for slot in self.slots],
                "store_id": self.store_id.hex(),
                "suite": SUITES[FORMAT],
                "version": FORMAT,
            }
        )

    @classmethod
    def decode(cls, data: bytes, version: int) -> "Header":
        """Read a header line.

        Raises:
            MalformedKeystore: It does not follow the specification.
            WorkFactorTooHigh: A slot asks for more work than we allow.
        """
        if len(data) > MAX_HEADER_BYTES[version]:
            raise MalformedKeystore("the header is too long")
        names = (*FIELDS, "chain") if version > 1 else FIELDS
        fields = Fields(decode(data, "the header"), "the header", names)
        if fields.integer("version", 0, MAX_INTEGER) != version:
            raise fields.bad("version", f"{version}, as in the first line")
        if fields.raw("suite") != SUITES[version]:
            raise fields.bad("suite", f"{SUITES[version]}, the one this program reads")
        links = fields.items("chain", 1, MAX_LINKS) if version > 1 else []
        return cls(
            store_id=fields.octets("store_id", STORE_ID_BYTES, STORE_ID_BYTES),
            generation=fields.integer("generation", 1, MAX_INTEGER),
            slots=read_slots(fields.items("slots", 1, MAX_SLOTS), version),
            chain=read_chain(links),
            version=version,
        )


@dataclass(frozen=True)
class Frame:
    """The parts of a file, before any of it is opened."""

    header: Header
    header_line: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    payload: memoryview = field(repr=False)
    checksum: str


def take_apart(data: bytes) -> Frame:
    """Check the form and checksum of a file, and read its header.

    Raises:
        MalformedKeystore: Damaged, or not a keystore.
        WorkFactorTooHigh: A slot asks for more work than we allow.
    """
    version = _version_of(data)
    if len(data) > MAX_FILE_BYTES:
        raise MalformedKeystore(f"it is longer than {MAX_FILE_BYTES} bytes")
    start = len(MAGIC) + DIGEST_DIGITS + 1
    body = memoryview(data)[start:]  # a view: a large store is not copied
    checksum = data[len(MAGIC) : start]
    expected = hashlib.sha256(body).hexdigest()
    if checksum != expected.encode("ascii") + b"\n":
        raise MalformedKeystore("the checksum does not match: the file is damaged")
    line_end = data.find(b"\n", start, start + MAX_HEADER_BYTES[version] + 1)
    if line_end < 0:
        raise MalformedKeystore("the header is too long, or has no end")
    payload_start = line_end + 1 + DIGEST_DIGITS + 1
    line, mac = data[start : line_end + 1], data[line_end + 1 : payload_start - 1]
    payload = memoryview(data)[payload_start:]
    if data[payload_start - 1 : payload_start] != b"\n" or b"\n" in mac:
        raise MalformedKeystore("the MAC is not one line of its length")
    if len(payload) < OVERHEAD_BYTES:
        raise MalformedKeystore("the payload is too short")
    return Frame(Header.decode(line[:-1], version), line, mac, payload, expected)


def open_payload(frame: Frame, store_key: Secret) -> bytearray:
    """Authenticate the header, then open the payload.

    Raises:
        TamperedKeystore: Header, MAC or payload is not what a key holder wrote.
    """
    expected = _mac(store_key, frame.header.store_id, frame.header_line)
    if not hmac.compare_digest(expected, frame.mac):
        raise TamperedKeystore("the header was altered after it was written")
    associated = frame.header_line + frame.mac + b"\n"
    try:
        return open_sealed(store_key, "payload", frame.payload, associated)
    except (NotThisKey, Altered):
        raise TamperedKeystore(
            "the entries were altered after they were written"
        ) from (None)


def put_together(
    header: Header, store_key: Secret, payload: Secret
) -> tuple[bytes, str]:
    """Return the bytes of a whole file, and its checksum."""
    line = header.encode() + b"\n"
    mac = _mac(store_key, header.store_id, line) + b"\n"
    parts = line, mac, *seal_parts(store_key, "payload", payload, line + mac)
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    start = MAGIC + checksum.hexdigest().encode("ascii") + b"\n"
    return b"".join((start, *parts)), checksum.hexdigest()


def claimed(data: bytes) -> tuple[int, str]:
    """Return the generation and checksum that a file claims, without hashing it.

    Raises:
        MalformedKeystore: Damaged, or not a keystore.
        WorkFactorTooHigh: A slot asks for more work than we allow.
    """
    version = _version_of(data)
    lines = data[:CLAIM_BYTES].split(b"\n", 3)
    if len(lines) < 4:
        raise MalformedKeystore("this is not a keystore")
    checksum = lines[1].decode("ascii", "replace")
    return Header.decode(lines[2], version).generation, checksum


def _version_of(data: bytes) -> int:
    for version, magic in ((FORMAT, MAGIC), (1, OLD_MAGIC)):
        if data.startswith(magic):
            return version
        if data.startswith(magic[:-1] + b"\r"):
            raise MalformedKeystore(
                "its line ends were converted, as for a text file",
                hint="fetch it again as a binary file; in git, `*.mlgk binary` in "
                ".gitattributes",
            )
    if data.startswith(ANY_VERSION):
        raise MalformedKeystore(
            "the first line names a version that this program cannot read",
            hint="it may be damaged, or written by a later mlguard",
        )
    raise MalformedKeystore("this is not a keystore", hint="check the path")


def _mac(store_key: Secret, store_id: bytes, line: bytes) -> bytes:
    key = derive(store_key, "header-mac", salt=store_id)
    return hmac.digest(key, line, "sha256").hex().encode("ascii")
