"""One loop for all parsers: break a good example, read it, and see how it ends.

Flips, cuts, repeats and splices bytes, and puts in what parsers stumble over. Only our
own refusals may come out.
"""

import collections
import random
from collections.abc import Callable
from dataclasses import dataclass

from keystore import KeystoreError
from mlguard.errors import MlguardError

Found = collections.Counter[str]
REFUSALS = (MlguardError, KeystoreError)
EDITS = (1, 1, 1, 2, 4)  # in one input
SPANS = (1, 2, 8, 64)  # bytes
TOKENS = [
    b"\x00", b"\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-1", b"0",
    b"1e9", b"NaN", b"null", b"true", b"\\ud800", b"\\u0000", b"9" * 400,
    b"[" * 2000, b"\xff",
    b'"kind":"passphrase"', b'"state":"destroyed"', b'"secret":null', b"2147483648",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One parser: good examples, and what reads them."""

    examples: list[bytes]
    read: Callable[[bytes], object]


class Crash(Exception):
    """A parser ended with something that is no refusal.

    Attributes:
        data: The input.
    """

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(f"{name} was brought down by {len(data)} bytes")
        self.data = data


def fuzz(name: str, target: Target, draw: random.Random, count: int) -> Found:
    """Try so many inputs; how many ended how.

    Raises:
        Crash: With something that is no refusal.
    """
    found: Found = collections.Counter()
    for _ in range(count):
        data = mutate(draw, target.examples)
        try:
            found[f"{name}: {outcome_of(target.read, data)}"] += 1
        except Exception as error:
            raise Crash(name, data) from error
    return found


def outcome_of(read: Callable[[bytes], object], data: bytes) -> str:
    """How one input ends; anything but a refusal is raised."""
    try:
        read(data)
    except REFUSALS as refusal:
        return type(refusal).__name__
    return "accepted"


def mutate(draw: random.Random, examples: list[bytes]) -> bytes:
    data = bytearray(draw.choice(examples))
    for _ in range(EDITS[below(draw, len(EDITS))]):
        at = below(draw, len(data) + 1)
        end = min(len(data), at + SPANS[below(draw, len(SPANS))])
        kind = below(draw, 6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << below(draw, 8)
        elif kind == 1:
            data[at:end] = draw.choice(TOKENS)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end]
        elif kind == 4:
            data[at:end] = draw.choice(examples)[at:end]
        else:
            data[at:at] = draw.choice(TOKENS)
    return bytes(data)


def below(draw: random.Random, limit: int) -> int:
    return int(draw.random() * limit)  # three times as fast as randrange
