"""Make audit_log.json: logs of audits, one fault each. Imports nothing of mlguard.

Run by hand: python tests/vectors/make_audit_log.py. It starts from good.jsonl, which
was written by an audit once and is never made again, and authenticates every line anew
where a case says so: docs/spec/audit-log-v2.md, section 5.
"""

import hashlib
import hmac
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "audit_log"
SECRET = bytes(range(32))
GOOD = (FOLDER / "good.jsonl").read_bytes().splitlines(keepends=True)
END = 75  # bytes of ,"mac":"…"} and the end of the line
BODIES = [line[:-END] + b"}" for line in GOOD]


def chained(bodies: list[bytes]) -> bytes:
    """Lines with the authentication that the holder of the key gives them."""
    mac, lines = b"", []
    for body in bodies:
        mac = hmac.digest(SECRET, mac + body, hashlib.sha256)
        lines.append(body[:-1] + b',"mac":"' + mac.hex().encode() + b'"}\n')
    return b"".join(lines)


def edited(number: int, **changes: object) -> bytes:
    """A log of which one event has other fields; None takes a field away."""
    event = json.loads(BODIES[number]) | changes
    event = {name: value for name, value in event.items() if value is not None}
    return with_line(number, json.dumps(event, separators=(",", ":")).encode())


def with_line(number: int, body: bytes) -> bytes:
    return chained([*BODIES[:number], body, *BODIES[number + 1 :]])


def flipped(number: int, at: int) -> bytes:
    line = bytearray(GOOD[number])
    line[at] ^= 1
    return b"".join([*GOOD[:number], bytes(line), *GOOD[number + 1 :]])


ALL = b"".join(GOOD)
OK, NO, UNPROVED = (
    "ok",
    "ReportError",
    "unproved",
)  # unproved: refused with the key only
COUNTS = next(i for i, body in enumerate(BODIES) if b'"event":"counts"' in body)
CASES: list[tuple[str, bytes, str]] = [
    ("as it should be", ALL, OK),
    ("authenticated again by this program", chained(BODIES), OK),
    ("a half-written last line", ALL + GOOD[-1][:40], OK),
    ("an empty file", b"", NO),
    ("no start", b"".join(GOOD[1:]), NO),
    ("a line without its end, alone", GOOD[0][:-1], NO),
    (
        "an authentication in capitals",
        ALL.replace(GOOD[-1][-67:-3], GOOD[-1][-67:-3].upper()),
        NO,
    ),
    ("an authentication that is too short", ALL[:-4] + b'"}\n', NO),
    ("no authentication", b"".join([*GOOD[:-1], BODIES[-1] + b"\n"]), NO),
    ("another bit of an authentication", flipped(2, len(GOOD[2]) - 10), UNPROVED),
    (
        "authenticated with another key",
        ALL.replace(b'"mac":"', b'"mac":"').replace(GOOD[0][-67:-57], b"0123456789"),
        UNPROVED,
    ),
    ("a line left out", b"".join(GOOD[:1] + GOOD[2:]), UNPROVED),
    ("a line twice", b"".join([*GOOD[:2], *GOOD[1:]]), UNPROVED),
    ("two lines exchanged", b"".join([GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]]), UNPROVED),
    ("a number edited", ALL.replace(b'"exit_code":31', b'"exit_code":30'), UNPROVED),
    ("an event that nobody knows", edited(1, event="counted"), NO),
    ("no event", edited(1, event=None), NO),
    ("an unknown field", edited(1, more=1), NO),
    ("a field that is missing", edited(COUNTS, first=None), NO),
    ("text in place of a number", edited(COUNTS, first="0"), NO),
    ("a fraction in place of a whole number", edited(COUNTS, first=0.5), NO),
    ("a negative number", edited(COUNTS, first=-1), NO),
    ("true in place of a number", edited(COUNTS, first=True), NO),
    ("a model that there is not", edited(COUNTS, of="other"), NO),
    ("another schema", edited(0, schema="mlguard.audit-log/3"), NO),
    ("the schema before", edited(0, schema="mlguard.audit-log/1"), NO),
    ("not JSON", with_line(1, b"{nothing}"), NO),
    ("a list", with_line(1, b"[1]}"), NO),
    ("not UTF-8", with_line(1, b'{"event":"\xff"}'), NO),
    (
        "a number that is none",
        with_line(1, BODIES[1].replace(b'"first":0', b'"first":NaN')),
        NO,
    ),
    (
        "a number of many digits",
        with_line(1, b'{"event":"resume","created":' + b"9" * 5000 + b"}"),
        NO,
    ),
    ("deep nesting", with_line(1, b'{"event":' + b"[" * 5000 + b"]" * 5000 + b"}"), NO),
]


if __name__ == "__main__":
    cases = []
    for comment, data, expect in CASES:
        same = 0
        while same < min(len(ALL), len(data)) and ALL[same] == data[same]:
            same += 1
        tail = 0
        while (
            tail < min(len(ALL), len(data)) - same
            and ALL[len(ALL) - 1 - tail] == data[len(data) - 1 - tail]
        ):
            tail += 1
        middle = data[same : len(data) - tail]
        cases.append(
            {
                "comment": comment,
                "keep": [same, tail],
                "between": middle.decode("latin-1"),
                "expect": expect,
            }
        )
    value = {
        "comment": "good.jsonl to keep[0], the bytes between, its last keep[1] bytes",
        "secret": SECRET.hex(),
        "cases": cases,
    }
    out = Path(__file__).with_name("audit_log.json")
    out.write_text(json.dumps(value, indent=1) + "\n")
