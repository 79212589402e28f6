"""Write marks.json from docs/spec/marks-v1.md alone. Imports nothing of mlguard.

HKDF, ChaCha20 and the table are written out plainly: the quantile is found by halving
an interval, with the error function of the standard library. Run by hand when the
specification gains a case: `git diff` on the JSON must show only added lines.
"""

import hashlib
import hmac
import json
import math
import struct
from fractions import Fraction
from pathlib import Path

KEY = bytes(range(32))
MODEL = bytes(range(16))
GRANT = bytes([0xA5] * 16)
CODES = [
    ("the first words of a tensor", GRANT, "features.0.weight", 0, 8),
    ("another grant", bytes(16), "features.0.weight", 0, 8),
    ("another tensor, its name outside ASCII", GRANT, "étage.2/weight", 0, 8),
    ("far into the keystream", GRANT, "features.0.weight", 1_000_000, 8),
]


def main() -> None:
    """Write the file beside this program."""
    entries = table()
    packed = struct.pack("<65536h", *entries)
    path = Path(__file__).with_name("marks.json")
    cases = {
        "table": {
            "sha256": hashlib.sha256(packed).hexdigest(),
            "entries": {w: entries[w] for w in (0, 1, 2, 32767, 32768, 65535)},
        },
        "codes": [code_case(entries, *one) for one in CODES],
        "floats": [
            float_case(entries, "float32", 23, "f", 0.01),
            float_case(entries, "float16", 10, "e", 0.01),
            float_case(entries, "float32, a larger amplitude", 23, "f", 0.25),
        ],
        "integers": [
            integer_case("int8, its ends and zeros stay", -128, 127, 0.01),
            integer_case("uint8, at most a quarter moves", 0, 255, 0.25),
        ],
    }
    path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


def code_case(
    entries: list[int], comment: str, grant: bytes, name: str, start: int, count: int
) -> dict[str, object]:
    drawn = words(grant, name, start, count)
    return {
        "comment": comment,
        "key": KEY.hex(),
        "protection_id": MODEL.hex(),
        "grant_id": grant.hex(),
        "name": name,
        "start": start,
        "code": [entries[word] for word in drawn],
    }


def float_case(
    entries: list[int], comment: str, bits: int, code: str, amplitude: float
) -> dict[str, object]:
    """Section 3, of 16 rows of 18 elements; exact fractions until the one rounding."""
    name, rows = f"of {comment}", 16
    values = [rounded(wave(i), code) for i in range(rows * 18)]
    values[5] = values[40] = 0.0
    drawn = words(GRANT, name, 0, len(values))
    marked = []
    for row in range(rows):
        own = values[18 * row : 18 * row + 18]
        scale = amplitude * rounded(deviation(own), "f")
        for i, value in enumerate(own, 18 * row):
            change = scale * (entries[drawn[i]] / 1024)
            marked.append(value if value == 0 else rounded(value + change, code))
    return {
        "comment": comment,
        "grant_id": GRANT.hex(),
        "name": name,
        "type": code,
        "shape": [rows, 2, 9],
        "amplitude": amplitude,
        "values": values,
        "marked": marked,
    }


def integer_case(
    comment: str, low: int, high: int, amplitude: float
) -> dict[str, object]:
    name, rows = f"of {comment}", 8
    middle = 0 if low else 128
    values = [
        min(high, max(low, middle + round(70 * wave(i)))) for i in range(rows * 64)
    ]
    values[:4] = [low, high, 0, 0]
    drawn = words(GRANT, name, 0, len(values))
    marked = []
    for row in range(rows):
        own = values[64 * row : 64 * row + 64]
        share = min(0.25, (amplitude * rounded(deviation(own), "f")) ** 2)
        tail = math.floor(65536 * share / 2)
        for i, value in enumerate(own, 64 * row):
            step = (drawn[i] >= 65536 - tail) - (drawn[i] < tail)
            moved = value + step
            marked.append(moved if value and low <= moved <= high else value)
    return {
        "comment": comment,
        "grant_id": GRANT.hex(),
        "name": name,
        "type": "b" if low else "B",
        "shape": [rows, 8, 8],
        "amplitude": amplitude,
        "values": values,
        "marked": marked,
    }


def wave(i: int) -> float:
    """Numbers that look like weights and need no random source."""
    return math.sin(1.7 * i) * (1 + (i % 5)) / 3 + math.cos(0.31 * i * i) / 7


def deviation(values: list[float]) -> float:
    """Exact but for the root."""
    exact = [Fraction(one) for one in values]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((one - mean) ** 2 for one in exact) / len(exact))


def rounded(value: float, code: str) -> float:
    """To the nearest of a type, by struct: f is binary32, e binary16."""
    return float(struct.unpack(f"<{code}", struct.pack(f"<{code}", value))[0])


def table() -> list[int]:
    """Section 2."""
    upper = [round(1024 * quantile((w + 0.5) / 65536)) for w in range(32768, 65536)]
    return [-one for one in reversed(upper)] + upper


def quantile(share: float) -> float:
    """Where the normal distribution reaches a share above 1/2, by halving."""
    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        if math.erfc(-middle / math.sqrt(2)) / 2 < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def words(grant: bytes, name: str, start: int, count: int) -> list[int]:
    """Section 2: the words of one tensor's code."""
    key = subkey(f"mark/{grant.hex()}/{name}")
    first, last = start // 32, (start + count - 1) // 32
    stream = b"".join(block(key, number) for number in range(first, last + 1))
    found = struct.unpack(f"<{len(stream) // 2}H", stream)
    return list(found[start - 32 * first :][:count])


def subkey(use: str) -> bytes:
    """keys-v1.md, section 3: RFC 5869 with SHA-256, one round of expansion."""
    extracted = hmac.new(MODEL, KEY, hashlib.sha256).digest()
    info = b"mlguard/v1/" + use.encode()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def block(key: bytes, counter: int) -> bytes:
    """One block of 64 bytes: RFC 8439, section 2.3, with a nonce of zeros."""
    constants = struct.unpack("<4I", b"expand 32-byte k")
    state = [*constants, *struct.unpack("<8I", key), counter, 0, 0, 0]
    mixed = list(state)
    for _ in range(10):
        for a, b, c, d in (
            (0, 4, 8, 12),
            (1, 5, 9, 13),
            (2, 6, 10, 14),
            (3, 7, 11, 15),
        ):
            quarter(mixed, a, b, c, d)
        for a, b, c, d in (
            (0, 5, 10, 15),
            (1, 6, 11, 12),
            (2, 7, 8, 13),
            (3, 4, 9, 14),
        ):
            quarter(mixed, a, b, c, d)
    total = [(x + y) & 0xFFFFFFFF for x, y in zip(mixed, state, strict=True)]
    return struct.pack("<16I", *total)


def quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
    """A quarter round: RFC 8439, section 2.1."""
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & 0xFFFFFFFF
        s[z] ^= s[x]
        s[z] = ((s[z] << turn) | (s[z] >> (32 - turn))) & 0xFFFFFFFF


if __name__ == "__main__":
    main()
