"""The audit log: one line for every change, export and backup, chained and MACed.

A line is written before the change it tells of. So the log may know of a change that
did not happen (two lines then have one generation, and the last counts), but no
change happens that the log does not know of. docs/spec/keystore-v1.md, section 8.
"""

import getpass
import hashlib
import hmac
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from keystore.canonical import Fields, decode, encode, now
from keystore.errors import MalformedKeystore, TamperedLog
from keystore.header import MAX_GENERATION
from keystore.payload import LogHead
from keystore.sealing import derive

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


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the log.

    Attributes:
        n: 1, 2, 3 …
        op: What was done: create, add, promote …
        key: The key it was done to, or empty.
        version: The version it was done to, or 0.
        generation: The generation the change leads to, or that of the store.
        time: UTC.
        user: Who did it, as the system tells: name@host. Not authenticated.
    """

    n: int
    op: str
    key: str
    version: int
    generation: int
    time: str
    user: str

    def to_json(self) -> dict[str, object]:
        """What the record says, without the chain."""
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
    """Writes and checks the lines of one store's log."""

    def __init__(self, store_key: bytes, store_id: bytes) -> None:
        self._key = derive(store_key, "log-mac", salt=store_id)
        self.start = LogHead(count=0, head=hashlib.sha256(START + store_id).hexdigest())

    def line(self, record: Record, previous: str) -> bytes:
        """A record as a line of the file, with its end."""
        fields = record.to_json() | {"previous": previous}
        mac = hmac.digest(self._key, encode(fields), "sha256").hex()
        return encode(fields | {"mac": mac}) + b"\n"

    def next_line(
        self,
        log: bytes,
        head: LogHead | None,
        *,
        op: str,
        key: str,
        version: int,
        generation: int,
    ) -> tuple[bytes, LogHead]:
        """The line that goes on from the log, and where the log then stands.

        Only the last TAIL_BYTES of the log are needed.

        A log that lost its end goes on from what the store remembers, so that
        the gap stays visible.
        """
        last = self._last(log)
        known = head or self.start
        from_ = last if last.count >= known.count else known
        record = Record(
            n=from_.count + 1,
            op=op,
            key=key,
            version=version,
            generation=generation,
            time=now(),
            user=_user(),
        )
        line = self.line(record, from_.head)
        return line, LogHead(count=record.n, head=_digest(line))

    def records(self, log: bytes, head: LogHead | None) -> Iterator[Record]:
        """Check the whole log against itself and against the store.

        Raises:
            TamperedLog: A line was altered, removed, added or reordered, or the end
                that the store remembers is missing.
        """
        known, at = head or self.start, self.start
        seen = known.count == 0
        for line in _lines(log):
            record, previous = self._read(line, at.count + 1)
            if record.n != at.count + 1 or previous != at.head:
                raise TamperedLog(
                    f"expected record {at.count + 1} of the log, found {record.n}"
                )
            at = LogHead(count=record.n, head=_digest(line))
            seen = seen or at == known
            yield record
        if not seen:
            raise TamperedLog(
                f"the log ends at record {at.count} and lacks record {known.count}, "
                "which the keystore remembers"
            )

    def _last(self, log: bytes) -> LogHead:
        lines = _lines(log)
        if not lines:
            return self.start
        record, _ = self._read(lines[-1], 0)
        return LogHead(count=record.n, head=_digest(lines[-1]))

    def _read(self, line: bytes, n: int) -> tuple[Record, str]:
        what = f"record {n} of the log" if n else "the last record of the log"
        try:
            value = decode(line[:-1], what)
            fields = Fields(value, what, FIELDS)
            record = Record(
                n=fields.integer("n", 1, MAX_GENERATION),
                op=fields.prose("op", 1, 32),
                key=fields.prose("key", 0, 64),
                version=fields.integer("version", 0, MAX_GENERATION),
                generation=fields.integer("generation", 1, MAX_GENERATION),
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


def _lines(log: bytes) -> list[bytes]:
    """Whole lines; a torn one at the end was never confirmed to anyone."""
    return [line + b"\n" for line in log.split(b"\n")[:-1]]


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        name = str(os.getuid())
    text = f"{name}@{socket.gethostname()}"[:MAX_USER]
    return text if text.isprintable() else "unknown"
