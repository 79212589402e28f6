"""Strict, canonical JSON: one spelling for every value.

Reading re-encodes and compares, so duplicate keys, white space and second spellings are
refused by one rule. It knows nothing of what the fields mean. docs/spec/keystore-v1.md,
opening paragraphs.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from keystore.errors import MalformedKeystore

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\dZ", re.ASCII)
HEX = re.compile(r"(?:[0-9a-f]{2})*")
MAX_INTEGER = 2**53 - 1  # exact in every JSON reader
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # made once: costly


def encode(value: object) -> bytes:
    """Return the one spelling of a value."""
    return ENCODER.encode(value).encode("ascii")


def decode(data: bytes | memoryview, what: str) -> object:
    """Read a value, refusing any spelling but the canonical one.

    Raises:
        MalformedKeystore: Not JSON, not ASCII, too deep, or not canonical.
    """
    try:
        value: object = json.loads(str(data, "ascii"))
        canonical = encode(value) == data
    except (ValueError, RecursionError):  # deep nesting is a recursion error
        raise MalformedKeystore(f"{what} is not JSON") from None
    if not canonical:
        raise MalformedKeystore(f"{what} is not canonical JSON")
    return value


def now() -> str:
    """Return the time in UTC, to the second, as the file writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Fields:
    """An object whose fields are exactly the expected ones, read by type."""

    def __init__(self, value: object, what: str, names: Iterable[str]) -> None:
        if not isinstance(value, dict):
            raise MalformedKeystore(f"{what} is not an object")
        strays = sorted(set(names) ^ set(value))
        if strays:
            stray = strays[0] if NAME.fullmatch(strays[0]) else "a strange one"
            kind = "unknown" if strays[0] in value else "missing"
            raise MalformedKeystore(f"{what} has a field that is {kind}: {stray}")
        self._value: dict[str, Any] = value
        self._what = what

    def bad(self, name: str, expected: str) -> MalformedKeystore:
        """The refusal of one field."""
        return MalformedKeystore(f"{self._what}: {name} is not {expected}")

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        value = self._value[name]
        if type(value) is not int or not low <= value <= high:
            raise self.bad(name, f"an integer from {low} to {high}")
        return value

    def text(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        """Text that the whole pattern matches."""
        value = self._value[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.bad(name, expected)
        return value

    def prose(self, name: str, low: int, high: int) -> str:
        """Printable text of low to high characters."""
        value = self._value[name]
        if not (
            isinstance(value, str) and low <= len(value) <= high and value.isprintable()
        ):
            raise self.bad(name, f"{low} to {high} printable characters")
        return value

    def time(self, name: str) -> str:
        """A moment in UTC that exists in the calendar."""
        value = self.text(name, TIME, "a UTC time")
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise self.bad(name, "a UTC time") from None
        return value

    def octets(self, name: str, low: int, high: int) -> bytes:
        """Hexadecimal digits of low to high bytes."""
        value = self.text(name, HEX, "lower-case hex")
        if not low <= len(value) // 2 <= high:
            raise self.bad(name, f"{low} to {high} bytes of hex")
        return bytes.fromhex(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value[name]
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def items(self, name: str, low: int, high: int) -> list[object]:
        """A list of low to high things."""
        value = self._value[name]
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise self.bad(name, f"a list of {low} to {high}")
        return value

    def raw(self, name: str) -> object:
        """The field as it is, for a reader of its own."""
        value: object = self._value[name]
        return value
