"""The plaintext inside a store: one line about it, then two lines for each entry.

docs/spec/keystore-v1.md, section 6; docs/spec/keystore-v2.md, section 5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import accumulate, islice, pairwise

from keystore.canonical import MAX_INTEGER, NAME, Fields, decode, encode, now
from keystore.entries import MAX_ENTRIES, Entry
from keystore.errors import KeyExists, KeyNotFound, MalformedKeystore
from keystore.sealing import Secret, wipe

ENTRY = re.compile(f"({NAME.pattern})\n([^\n]*)\n".encode("ascii"))
MAX_NAMED = 20  # names a refusal lists before it says "and N more"
MAX_COMPARED = 2000  # names, among which the nearest to a misspelt one is looked for
FIELDS = ("created", "log")
LOG_FIELDS = ("count", "head")
LOG_KEY_FIELDS = ("key", "last")
MAX_LOG_KEYS = 1000
LOG_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class LogHead:
    """The head of the audit log at the last write."""

    count: int
    head: str


@dataclass(frozen=True, kw_only=True)
class LogEpoch:
    """A former key of the audit log's MACs, and the last record under it.

    It outlives the store key that it came from.
    """

    key: bytes = field(repr=False)
    last: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything a store holds. Bodies stay bytes until one is asked for.

    Attributes:
        created: When the store was made.
        log: The head of its log.
        log_epochs: The keys of the MACs of earlier records.
        bodies: The entries by name; views of the buffer where they were read.
        buffer: The plaintext they were read from, so that it can be wiped.
    """

    created: str
    log: LogHead | None = None
    log_epochs: tuple[LogEpoch, ...] = ()
    bodies: Mapping[str, bytes | memoryview] = field(repr=False)
    buffer: bytearray = field(default_factory=bytearray, repr=False, compare=False)

    @classmethod
    def empty(cls) -> "Contents":
        """Return the contents of an empty store."""
        return cls(created=now(), bodies={})

    def wipe(self) -> None:
        """Overwrite what was read. Bodies already returned may have copies."""
        wipe(self.buffer)

    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(sorted(self.bodies))

    def entry(self, name: str) -> Entry:
        """Read one entry.

        Raises:
            KeyNotFound: No key has that name; the refusal lists those that exist.
        """
        body = self.bodies.get(name)
        if body is None:
            near = get_close_matches(name, islice(self.bodies, MAX_COMPARED), n=1)
            raise KeyNotFound(
                f"no key {name!r}; known keys: {self._known()}",
                hint=f"did you mean {near[0]}?" if near else None,
            )
        return Entry.decode(name, body)

    def with_new(self, entry: Entry) -> "Contents":
        """Return the contents with one more entry.

        Raises:
            KeyExists: The name is taken.
        """
        if entry.name in self.bodies:
            raise KeyExists(f"there is already a key {entry.name!r}")
        return self.with_entry(entry)

    def with_entry(self, entry: Entry) -> "Contents":
        """Return the contents with an entry added or replaced."""
        return replace(self, bodies={**self.bodies, entry.name: entry.encode()})

    def encode(self) -> bytearray:
        """Return the whole plaintext."""
        log = self.log and {"count": self.log.count, "head": self.log.head}
        epochs = [{"key": e.key.hex(), "last": e.last} for e in self.log_epochs]
        names = self.names()
        # The last is empty: the text ends a line.
        lines: list[bytes | memoryview] = [b""] * (2 * len(names) + 2)
        first = {"created": self.created, "log": log, "log_keys": epochs}
        lines[0] = encode(first)
        lines[1:-1:2] = " ".join(names).encode("ascii").split()  # all at once
        lines[2:-1:2] = map(self.bodies.__getitem__, names)
        return bytearray(b"\n").join(lines)

    def settled(self) -> "Contents":
        """Return the same contents, with bodies that are views of `buffer`."""
        buffer = self.encode()
        names, view = self.names(), memoryview(buffer)
        sizes = [len(self.bodies[name]) for name in names]
        lengths = [len(n) + size + 2 for n, size in zip(names, sizes, strict=True)]
        ends = list(accumulate(lengths, initial=buffer.find(b"\n") + 1))[1:]
        starts = [end - 1 - size for end, size in zip(ends, sizes, strict=True)]
        bodies = {
            name: view[start : end - 1]
            for name, start, end in zip(names, starts, ends, strict=True)
        }
        return replace(self, bodies=bodies, buffer=buffer)

    @classmethod
    def decode(cls, data: Secret, version: int) -> "Contents":
        """Read the plaintext; its bodies are read later, one by one.

        A bytearray is kept; `wipe` overwrites it.

        Raises:
            MalformedKeystore: It does not follow the specification.
        """
        buffer = data if isinstance(data, bytearray) else bytearray(data)
        first = buffer.find(b"\n") + 1
        known = (*FIELDS, "log_keys") if version > 1 else FIELDS
        line = decode(memoryview(buffer)[: first - 1] if first else b"", "the payload")
        fields = Fields(line, "the payload", known)
        names, views = _entries(buffer, first)
        bodies = dict(zip(names, views, strict=True))
        # Sorted, and no name twice: the same as strictly ascending, in a fifth of
        # the time.
        if len(bodies) != len(names) or sorted(names) != names:
            raise MalformedKeystore("the entries are not in the order of their names")
        return cls(
            created=fields.time("created"),
            log=_read_log(fields.raw("log")),
            log_epochs=_read_epochs(fields) if version > 1 else (),
            bodies=bodies,
            buffer=buffer,
        )

    def _known(self) -> str:
        names = self.names()
        more = len(names) - MAX_NAMED
        listed = ", ".join(names[:MAX_NAMED]) or "none yet"
        return f"{listed} and {more} more" if more > 0 else listed


def _read_log(item: object) -> LogHead | None:
    if item is None:
        return None
    fields = Fields(item, "log", LOG_FIELDS)
    return LogHead(
        count=fields.integer("count", 0, MAX_INTEGER),
        head=fields.octets("head", 32, 32).hex(),
    )


def _read_epochs(fields: Fields) -> tuple[LogEpoch, ...]:
    epochs = []
    for item in fields.items("log_keys", 0, MAX_LOG_KEYS):
        each = Fields(item, "log key", LOG_KEY_FIELDS)
        key = each.octets("key", LOG_KEY_BYTES, LOG_KEY_BYTES)
        epochs.append(LogEpoch(key=key, last=each.integer("last", 1, MAX_INTEGER)))
    if any(a.last >= b.last for a, b in pairwise(epochs)):
        raise fields.bad("log_keys", "in order")
    return tuple(epochs)


def _entries(buffer: bytearray, start: int) -> tuple[list[str], list[memoryview]]:
    """Return the names, and views of the bodies, which are not copied.

    Raises:
        MalformedKeystore: Anything else is there, or there are too many.
    """
    view, names, views = memoryview(buffer), [], []
    read = start
    for found in ENTRY.finditer(buffer, start):  # 10,000 in a few milliseconds
        names.append(found[1].decode("ascii"))
        begin, end = found.span(2)
        views.append(view[begin:end])
        read += end + 1 - found.start()
    if read != len(buffer):
        raise MalformedKeystore(
            "the payload does not have two lines for each entry, the name first"
        )
    if len(names) > MAX_ENTRIES:
        raise MalformedKeystore(f"there are more than {MAX_ENTRIES} entries")
    return names, views
