"""The audit log: one line for every change, export and backup, chained and MACed.

A line is written before the change it describes. So the log may hold a change that did
not happen (two lines then have one generation, and the last counts), but no change
happens without a line in the log. docs/spec/keystore-v1.md, section 8;
docs/spec/keystore-v2.md, section 5.
"""

import getpass
import hashlib
import hmac
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keystore.canonical import MAX_INTEGER, Fields, decode, encode, now
from keystore.errors import MalformedKeystore, RolledBackKeystore, TamperedLog
from keystore.payload import Contents, LogEpoch, LogHead
from keystore.sealing import Secret, derive

FIELDS = (
    "generation",
    "key",
    "mac",
    "n",
    "op",
    "previous",
    "time",
    "user",
    "version",
)
START = b"mlguard keystore log 1\n"
MAX_USER = 200  # characters
TAIL_BYTES = 8192  # more than any line
ARRIVE = "arrive"  # the op of a record that may be the first one here


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What the log says about a change.

    Attributes:
        op: What was done: create, add, promote …
        key: The key it was done to, or empty.
        version: The version it was done to, or 0.
        erases: Whether every copy of the previous state must go.
    """

    op: str
    key: str = ""
    version: int = 0
    erases: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the log.

    Attributes:
        n: 1, 2, 3 …
        op: What was done: create, add, promote …
        key: The key it was done to, or empty.
        version: The version it was done to, or 0.
        generation: The generation that the change leads to, or that of the store.
        time: UTC.
        user: Who did it, as the system says: name@host. Not authenticated.
    """

    n: int
    op: str
    key: str
    version: int
    generation: int
    time: str
    user: str

    def to_json(self) -> dict[str, object]:
        """Return the fields of the record, without the chain."""
        return {
            "generation": self.generation,
            "key": self.key,
            "n": self.n,
            "op": self.op,
            "time": self.time,
            "user": self.user,
            "version": self.version,
        }


class LogKey:
    """A key that writes and checks the lines of one store's log.

    Args:
        store_key: The current store key, under which new lines get their MACs.
        store_id: The id of the store.
        epochs: The keys of earlier lines.
    """

    def __init__(
        self, store_key: Secret, store_id: bytes, epochs: Sequence[LogEpoch] = ()
    ) -> None:
        self.key = derive(store_key, "log-mac", salt=store_id)
        self._epochs = epochs
        self.start = LogHead(count=0, head=hashlib.sha256(START + store_id).hexdigest())

    def line(self, record: Record, previous: str) -> bytes:
        """Return a record as a line of the file, with its line end."""
        fields = record.to_json() | {"previous": previous}
        mac = hmac.digest(self._key_of(record.n), encode(fields), "sha256").hex()
        return encode(fields | {"mac": mac}) + b"\n"

    def next_lines(
        self,
        log: bytes,
        head: LogHead | None,
        deeds: Sequence[Deed],
        *,
        generation: int,
        elsewhere: int = 0,
    ) -> tuple[list[bytes], LogHead]:
        """Return the lines that continue the log, and the log's new head.

        Only the last TAIL_BYTES of the log are needed. A log that lost its end
        continues from the head that the store remembers, so that the gap stays visible.

        Args:
            log: The log, or its end.
            head: Where the store remembers it to stand.
            deeds: What the lines describe.
            generation: The generation that the change leads to.
            elsewhere: How many records are known to be elsewhere.

        Raises:
            RolledBackKeystore: The log is ahead of the store.
        """
        last, seen = self._last(log)
        if seen > generation:
            raise _ahead(seen, generation - 1)
        known = head or self.start
        at = last if last.count >= known.count else known
        if not log and 0 < at.count == elsewhere:
            deeds = (Deed(op=ARRIVE), *deeds)
        lines = []
        for deed in deeds:
            record = _record(at.count + 1, deed, generation)
            lines.append(self.line(record, at.head))
            at = LogHead(count=record.n, head=_digest(lines[-1]))
        return lines, at

    def records(
        self, log: bytes, head: LogHead | None, *, generation: int, elsewhere: int = 0
    ) -> Iterator[Record]:
        """Check the whole log against itself and against the store.

        Args:
            log: The log.
            head: Where the store remembers it to stand.
            generation: The generation of the store.
            elsewhere: How many records are known to be elsewhere, or 0.

        Raises:
            TamperedLog: A line was altered, removed, added or reordered, or the end
                that the store remembers is missing.
            RolledBackKeystore: The log is ahead of the store by more than a crash
                explains.
        """
        known, at = head or self.start, self.start
        lines = _lines(log)
        seen = known.count in (0, 0 if lines else elsewhere)
        for number, line in enumerate(lines):
            record, previous = self._read(line, at.count + 1)
            if number == 0 and record.op == ARRIVE:
                at = LogHead(count=record.n - 1, head=previous)
                seen = at == known
            if record.n != at.count + 1 or previous != at.head:
                raise TamperedLog(
                    f"expected record {at.count + 1} of the log, found {record.n}"
                )
            if record.generation > generation + 1:
                raise _ahead(record.generation, generation)
            at = LogHead(count=record.n, head=_digest(line))
            seen = seen or at == known
            yield record
        if not seen:
            raise TamperedLog(
                f"the log ends at record {at.count} and lacks record {known.count}, "
                "which the keystore remembers"
            )

    def generation_of(self, log: bytes) -> int:
        """Return the generation in the last record of a log, or of its end.

        Raises:
            TamperedLog: The record was altered, or is under another key.
        """
        return self._last(log)[1]

    def _key_of(self, number: int) -> bytes:
        earlier = (epoch.key for epoch in self._epochs if number <= epoch.last)
        return next(earlier, self.key)

    def _last(self, log: bytes) -> tuple[LogHead, int]:
        """Return the head of the log, and the generation in its last record."""
        lines = _lines(log)
        if not lines:
            return self.start, 0
        record, _ = self._read(lines[-1], 0)
        return LogHead(count=record.n, head=_digest(lines[-1])), record.generation

    def _read(self, line: bytes, n: int) -> tuple[Record, str]:
        what = f"record {n} of the log" if n else "the last record of the log"
        try:
            value = decode(line[:-1], what)
            fields = Fields(value, what, FIELDS)
            record = Record(
                n=fields.integer("n", 1, MAX_INTEGER),
                op=fields.prose("op", 1, 32),
                key=fields.prose("key", 0, 64),
                version=fields.integer("version", 0, MAX_INTEGER),
                generation=fields.integer("generation", 1, MAX_INTEGER),
                time=fields.time("time"),
                user=fields.prose("user", 0, MAX_USER),
            )
            previous = fields.octets("previous", 32, 32).hex()
        except MalformedKeystore as refusal:
            raise TamperedLog(str(refusal)) from None
        # The line is canonical, so equal bytes are the only way to be equal.
        if not hmac.compare_digest(self.line(record, previous), line):
            raise TamperedLog(f"{what} was altered, or is another keystore's")
        return record, previous


def log_key_of(store_key: Secret, store_id: bytes, contents: Contents) -> LogKey:
    """Return the key that writes and checks the log of a store with these contents."""
    return LogKey(store_key, store_id, contents.log_epochs)


def _record(number: int, deed: Deed, generation: int) -> Record:
    return Record(
        n=number,
        op=deed.op,
        key=deed.key,
        version=deed.version,
        generation=generation,
        time=now(),
        user=_user(),
    )


def _ahead(log: int, store: int) -> RolledBackKeystore:
    return RolledBackKeystore(
        f"the log is at generation {log}, but the keystore is at {store}: an older "
        "keystore was put in its place"
    )


def _lines(log: bytes) -> list[bytes]:
    """Return the whole lines; a torn one at the end was never confirmed to anyone."""
    return [line + b"\n" for line in log.split(b"\n")[:-1]]


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _user() -> str:
    """Return who runs this, as the system knows it and not as the environment says."""
    try:
        import pwd
    except ModuleNotFoundError:  # on Windows
        name = getpass.getuser()
    else:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a user id without a name
            name = str(os.getuid())
    text = f"{name}@{socket.gethostname()}"[:MAX_USER]
    return text if text.isprintable() else "unknown"
