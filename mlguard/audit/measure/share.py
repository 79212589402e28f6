"""Share the events of several processes, as one list in the same order for all."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from mlguard.audit.log import AuditLog, Event, dump_event, parse_event
from mlguard.protect.crew import Crew

Work = TypeVar("Work")


def shared(crew: Crew, events: Sequence[Event]) -> list[Event]:
    """Return the events of every process, by rank. Every process must call it."""
    if crew.size == 1:
        return list(events)
    parts = crew.exchange(b"\n".join(map(dump_event, events)))
    lines = [line for part in parts for line in part.splitlines()]
    return [parse_event(line, name="another process") for line in lines]


def dealt(crew: Crew, work: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """Return this process's piece of each round, or none at the end."""
    for start in range(0, len(work), crew.size):
        yield work[start : start + crew.size][crew.rank : crew.rank + 1]


def tell(crew: Crew, log: AuditLog) -> None:
    """Send the events of the first process to the others."""
    known = shared(crew, log.events if crew.first else ())
    if not crew.first:
        log.events = known
