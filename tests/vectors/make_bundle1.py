"""Make bundle1.json: bundles of format 1, one fault each. Imports nothing of mlguard.

Run by hand: python tests/vectors/make_bundle1.py. It starts from a file of version 0.1
(tests/golden/v0.1/shf.mlgb), takes it apart and writes it as docs/spec/bundle-v1.md,
section 1, has it; no case needs a key to be refused.
"""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

BASE = Path(__file__).parents[1] / "golden" / "v0.1" / "shf.mlgb"
DATA = BASE.read_bytes()
LOCAL, CENTRAL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")


def members_of(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, first byte and size of every member's content."""
    found, at = [], 0
    while data[at : at + 4] == b"PK\3\4":
        fields = LOCAL.unpack_from(data, at)
        size, name_size = fields[7], fields[9]
        name = data[at + 30 : at + 30 + name_size]
        found.append((name, at + 30 + name_size, size))
        at += 30 + name_size + size
    return found


MEMBERS = members_of(DATA)
(NAME, FIRST, SIZE), *REST = MEMBERS
MANIFEST = DATA[FIRST : FIRST + SIZE]
MIDDLE = (FIRST + SIZE, REST[-1][1] + REST[-1][2])  # from the second header on
DIRECTORY = DATA[MIDDLE[1] :]


def rebuilt(manifest: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the middle when the manifest is another."""
    crc, size = zlib.crc32(manifest), len(manifest)
    header = list(LOCAL.unpack_from(DATA, 0))
    header[6:9] = crc, size, size
    head = LOCAL.pack(*header) + NAME + manifest
    shift, at, entries = size - SIZE, 0, b""
    while DIRECTORY[at : at + 4] == b"PK\1\2":
        fields = list(CENTRAL.unpack_from(DIRECTORY, at))
        name = DIRECTORY[at + 46 : at + 46 + fields[10]]
        if name == NAME:
            fields[7:10] = crc, size, size
        else:
            fields[16] += shift
        entries += CENTRAL.pack(*fields) + name
        at += 46 + len(name)
    end = list(END.unpack_from(DIRECTORY, at))
    end[6] += shift
    return head, entries + END.pack(*end)


def field(**changes: object) -> bytes:
    """The manifest with other fields; None takes one away."""
    fields = json.loads(MANIFEST) | changes
    fields = {name: value for name, value in fields.items() if value is not ...}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


Edit = Callable[[bytes, bytes], tuple[bytes, bytes]]
HEAD, TAIL = DATA[: MIDDLE[0]], DIRECTORY
RENAMED = HEAD.replace(b"manifest.json", b"manifest.yaml", 1)
MALFORMED = "MalformedBundle"
INSIDE = json.loads(MANIFEST)


def at(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


CASES: list[tuple[str, tuple[bytes, bytes], str]] = [
    ("as it should be", (HEAD, TAIL), "ok"),
    ("written again by this program", rebuilt(MANIFEST), "ok"),
    ("a byte after the end", (HEAD, TAIL + b"\0"), MALFORMED),
    ("the last byte cut off", (HEAD, TAIL[:-1]), MALFORMED),
    ("no directory", (HEAD, b""), MALFORMED),
    ("another first byte", (at(HEAD, 0, b"X"), TAIL), MALFORMED),
    ("another name of a member", (RENAMED, TAIL), MALFORMED),
    ("another time stamp", (at(HEAD, 10, b"\1\0"), TAIL), MALFORMED),
    ("compressed, as it says", (at(HEAD, 8, b"\x08\0"), TAIL), MALFORMED),
    ("encrypted, as it says", (at(HEAD, 6, b"\x01\0"), TAIL), MALFORMED),
    ("another checksum", (at(HEAD, 14, b"\0\0\0\0"), TAIL), MALFORMED),
    ("a size of 4 GiB", (at(HEAD, 18, b"\xff" * 8), TAIL), MALFORMED),
    ("another byte in the directory", (HEAD, at(TAIL, 20, b"\0")), MALFORMED),
    ("a comment of the archive", (HEAD, TAIL[:-2] + b"\2\0hi"), MALFORMED),
    (
        "a manifest with white space",
        rebuilt(MANIFEST.replace(b":", b": ", 1)),
        MALFORMED,
    ),
    ("a key twice", rebuilt(b'{"audit":null,' + MANIFEST[1:]), MALFORMED),
    ("not JSON", rebuilt(b"{nothing}"), MALFORMED),
    (
        "not UTF-8",
        rebuilt(MANIFEST.replace(b'"licence":"', b'"licence":"\xff', 1)),
        MALFORMED,
    ),
    ("deep nesting", rebuilt(b"[" * 5000 + b"]" * 5000), MALFORMED),
    ("an unknown field", rebuilt(field(zebra=1)), MALFORMED),
    ("a field that is missing", rebuilt(field(licence=...)), MALFORMED),
    ("text in place of a number", rebuilt(field(opset="20")), MALFORMED),
    ("true in place of a number", rebuilt(field(opset=True)), MALFORMED),
    ("an opset that nobody reads", rebuilt(field(opset=7)), MALFORMED),
    ("a key id that is none", rebuilt(field(key_id="xyz")), MALFORMED),
    ("control characters in the licence", rebuilt(field(licence="a\x1bb")), MALFORMED),
    ("a key space that is another", rebuilt(field(key_space_bits=256.0)), MALFORMED),
    ("a task that there is not", rebuilt(field(task="detection")), MALFORMED),
    ("no classes", rebuilt(field(class_names=[])), MALFORMED),
    (
        "a signature, which version 1 does not know",
        rebuilt(field(signature="00")),
        MALFORMED,
    ),
    (
        "another digest of the model",
        rebuilt(
            field(
                files=INSIDE["files"]
                | {REST[-1][0].decode(): {"sha256": "00" * 32, "size": REST[-1][2]}}
            )
        ),
        "TamperedBundle",
    ),
]


if __name__ == "__main__":
    cases = [
        {
            "comment": comment,
            "head": base64.b64encode(head).decode(),
            "tail": base64.b64encode(tail).decode(),
            "expect": expect,
        }
        for comment, (head, tail), expect in CASES
    ]
    value = {
        "comment": "head, the bytes of the base from middle[0] to middle[1], tail",
        "base": "golden/v0.1/shf.mlgb",
        "middle": MIDDLE,
        "cases": cases,
    }
    out = Path(__file__).with_name("bundle1.json")
    out.write_text(json.dumps(value, indent=1) + "\n")
