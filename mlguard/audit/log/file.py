"""audit.jsonl: every event of an audit on a line, on the disk before the next begins.

Each line is authenticated with a subkey of the correct key, together with all lines
before it. A resumed audit never computes a finding from a line that was not written
with its owner's key, or from one of another run, other images or other settings; a line
that was being written when the machine stopped is dropped. docs/spec/audit-log-v2.md.
"""

import hmac
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from mlguard.audit.findings import Control, NotRun, Outcome
from mlguard.audit.log.events import (
    Attacked,
    AttackEnded,
    Controlled,
    Counted,
    Ended,
    Event,
    LeftOut,
    Model,
    Resumed,
    Started,
    dump_event,
    parse_event,
)
from mlguard.errors import OutputError, OutputExists, ReportError
from mlguard.files import NOT_WAITING
from mlguard.tasks import Counts

USE = "audit/log"  # of the subkey; docs/spec/keys-v1.md, section 3
PROOF_USE = "audit/report"  # use of the subkey that proves the report made from the log
MAX_LINE_BYTES = 1 << 28  # more than an event's compressed counts take
MAX_LOG_BYTES = 1 << 32  # 100 keys and 5,000 images make some 20 MiB
AGAIN = "begin again with another --out, or resume the audit with its own settings"

_MAC = re.compile(rb',"mac":"[0-9a-f]{64}"\}\n')
_MAC_BYTES = 75  # length of a line's end, from ,"mac": on


class AuditLog:
    """The events of one audit so far, and a place for more.

    Without a file it keeps events in memory, for an audit that nobody will resume.
    """

    def __init__(
        self,
        started: Started,
        *,
        secret: bytes = b"",
        file: BinaryIO | None = None,
        name: str = "",
    ) -> None:
        self.started = started
        self.events: list[Event] = []
        self._secret, self._file, self.name = secret, file, name
        self._mac, self._end = b"", 0

    @classmethod
    def begin(cls, path: Path, secret: bytes, started: Started) -> Self:
        """Create the file of a new audit.

        Raises:
            OutputExists: Something is already at the path.
            OutputError: There is no space, or the folder is not writable.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        except FileExistsError:
            raise OutputExists(f"{path} already exists") from None
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        log = cls(started, secret=secret, file=file, name=str(path))
        log.add(started)
        _sync_folder(path.parent)
        return log

    @classmethod
    def resume(cls, path: Path, secret: bytes, started: Started) -> Self:
        """Resume the file of an audit that was stopped.

        Raises:
            ReportError: It belongs to another audit, or was changed since.
            OutputError: It cannot be opened for writing.
        """
        try:
            flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            file = os.fdopen(os.open(path, flags), "r+b", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        log = cls(started, secret=secret, file=file, name=str(path))
        try:
            log._take_up(file)
        except BaseException:
            log.close()
            raise
        return log

    def add(self, *events: Event) -> None:
        """Write events to the disk, in one write.

        Raises:
            OutputError: There is no space left, or another audit writes there too.
        """
        lines = b""
        for event in events:
            lines += self._line(event)
            self.events.append(event)
        if self._file is None:
            return
        try:
            if os.fstat(self._file.fileno()).st_size != self._end:
                raise OutputError(
                    f"{self.name} was written to by another process",
                    hint="run only one audit at a time in a folder",
                )
            self._end += _write(self._file, lines)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.name}: {error.strerror}",
                hint="free some space, and resume with the same command and --resume",
            ) from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def counts(self, of: Model, first: int, images: int) -> Counts | None:
        """Return the counts of some images under every condition; None if unknown.

        Shape:
            returns  (conditions, images, …)
        """
        for event in self.events:
            if isinstance(event, Counted) and (event.of, event.first) == (of, first):
                if event.images != images:
                    raise ReportError(
                        f"{self.name}: images were counted in different parts"
                    )
                return self.started.part(event.counts, of, images)
        return None

    def outcomes(self, attack: str) -> list[tuple[Outcome, float]]:
        """Return the outcomes of an attack so far, each with the seconds it took."""
        return [
            (event.outcome(self.started), event.seconds)
            for event in self.attempts
            if event.attack == attack
        ]

    @property
    def attempts(self) -> list[Attacked]:
        """Return the outcomes of attacks so far, as events."""
        return [event for event in self.events if isinstance(event, Attacked)]

    def attack_ended(self, attack: str) -> bool:
        """Whether an attack has all its outcomes."""
        return AttackEnded(attack=attack) in self.events

    def controls(self) -> dict[int, Control]:
        """Return the controls so far, by their number of labelled images."""
        return {
            event.images: event.control(self.started)
            for event in self.events
            if isinstance(event, Controlled)
        }

    @property
    def left_out(self) -> tuple[NotRun, ...] | None:
        """Return what attacks left out; None if they are not done."""
        found = (e.not_run for e in self.events if isinstance(e, LeftOut))
        return next(found, None)

    @property
    def ended(self) -> Ended | None:
        """Return the end; None if not everything was measured and decided."""
        return next((e for e in self.events if isinstance(e, Ended)), None)

    def take_up(self, event: Event, body: bytes, line: bytes, *, check: bool) -> None:
        """Add the next line of a file, as read.

        Raises:
            ReportError: It was changed after it was written with the key.
        """
        if check and not hmac.compare_digest(self._line(event, body), line):
            raise ReportError(
                f"{self.name}: line {len(self.events) + 1} is not what the holder "
                "of the key left",
                hint=AGAIN,
            )
        self.events.append(event)

    def _take_up(self, file: BinaryIO) -> None:
        end = 0
        for line in _lines(file, self.name):
            end += len(line)
            body = _body(line, self.name)
            event = parse_event(body, name=self.name)
            if not self.events:
                self._check_same(event)
            self.take_up(event, body, line, check=True)
        os.ftruncate(file.fileno(), end)  # what was half-written
        self._end = end
        if not self.events:
            self.add(self.started)
        elif not self.ended:
            self.add(Resumed(created=now()))

    def _check_same(self, first: Event) -> None:
        if not isinstance(first, Started):
            raise ReportError(f"{self.name}: the first line is not a start")
        other = _differences(_table(first), _table(self.started))
        if other:
            raise ReportError(
                f"{self.name} belongs to another audit: {'; '.join(other)}", hint=AGAIN
            )

    def _line(self, event: Event, body: bytes | None = None) -> bytes:
        """Return the line of the next event, with its place in the chain."""
        body = dump_event(event) if body is None else body
        self._mac = hmac.digest(self._secret, self._mac + body, "sha256")
        return body[:-1] + b',"mac":"' + self._mac.hex().encode() + b'"}\n'


@contextmanager
def open_log(
    path: Path | None, secret: bytes, started: Started, *, resume: bool
) -> Iterator[AuditLog]:
    """Open the log of an audit, for as long as it runs.

    Args:
        path: audit.jsonl; None to keep the events in memory only.
        secret: The subkey of USE.
        started: The first event of the audit.
        resume: Resume an existing log, or begin it.

    Raises:
        OutputExists: There is a log, and `resume` was not given.
        OutputError: There is no space, or the place is not writable.
        ReportError: The log belongs to another audit, or was changed since.
    """
    if path is None:
        log = AuditLog(started)
    elif resume and path.exists():
        log = AuditLog.resume(path, secret, started)
    else:
        log = AuditLog.begin(path, secret, started)
    try:
        yield log
    finally:
        log.close()


def read_log(path: Path, secret: bytes | None = None) -> AuditLog:
    """Read a finished log, to write its report again.

    Args:
        path: audit.jsonl.
        secret: The subkey of USE, to check that every line was written with the key;
            None to skip the check.

    Raises:
        ReportError: It is not a log, is damaged, or was not written with the key.
    """
    try:
        flags = os.O_RDONLY | NOT_WAITING
        with open(os.open(path, flags), "rb", buffering=0) as file:
            lines = list(_lines(file, str(path)))
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from None
    bodies = [_body(line, str(path)) for line in lines]
    events = [parse_event(body, name=str(path)) for body in bodies]
    if not events or not isinstance(events[0], Started):
        raise ReportError(f"{path}: the first line is not a start")
    log = AuditLog(events[0], secret=secret or b"", name=str(path))
    for event, body, line in zip(events, bodies, lines, strict=True):
        log.take_up(event, body, line, check=secret is not None)
    return log


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield every whole line, within limits; an unfinished last line is dropped."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_LOG_BYTES:
        raise ReportError(f"{name} is not a file of at most {MAX_LOG_BYTES} bytes")
    with open(os.dup(file.fileno()), "rb") as buffered:
        buffered.seek(0)
        while line := buffered.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise ReportError(f"{name}: a line is longer than {MAX_LINE_BYTES}")
            if line.endswith(b"\n"):
                yield line


def _body(line: bytes, name: str) -> bytes:
    """Return a line without its authentication."""
    if not _MAC.fullmatch(line[-_MAC_BYTES:]):
        raise ReportError(f"{name}: a line does not end with its authentication")
    return line[:-_MAC_BYTES] + b"}"


def _table(started: Started) -> object:
    return json.loads(dump_event(started))


def _differences(old: object, new: object, place: str = "") -> list[str]:
    """Return where two tables differ, in words; `created` may differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in dict.fromkeys([*old, *new]):
            if key != "created":
                below = f"{place}.{key}" if place else str(key)
                found += _differences(old.get(key), new.get(key), below)
        return found
    return [] if old == new else [f"{place} was {old!r:.60} and is now {new!r:.60}"]


def _write(file: BinaryIO, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    return len(data)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a file's name is on the disk too. Windows cannot."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
