"""Events of several processes, the same list in the same order for all of them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from mlguard.audit.log import AuditLog, Event, dump_event, parse_event
from mlguard.protect.crew import Crew

Work = TypeVar("Work")


def shared(crew: Crew, events: Sequence[Event]) -> list[Event]:
    """The events of every process, by rank. Every process must call it."""
    if crew.size == 1:
        return list(events)
    parts = crew.exchange(b"\n".join(map(dump_event, events)))
    lines = [line for part in parts for line in part.splitlines()]
    return [parse_event(line, name="another process") for line in lines]


def dealt(crew: Crew, work: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """What this process does of each round: one piece, or none at the end."""
    for start in range(0, len(work), crew.size):
        yield work[start : start + crew.size][crew.rank : crew.rank + 1]


def tell(crew: Crew, log: AuditLog) -> None:
    """Give what the first process knows already to the others."""
    known = shared(crew, log.events if crew.first else ())
    if not crew.first:
        log.events = known
