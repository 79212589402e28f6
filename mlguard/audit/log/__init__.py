"""Every event of an audit, on the disk before the next begins. No torch."""

from mlguard.audit.log.events import (
    SCHEMA,
    Attacked,
    AttackEnded,
    Controlled,
    Counted,
    Decided,
    Ended,
    Event,
    Model,
    NearbyPoint,
    Source,
    Started,
    dump_event,
    pack,
    parse_event,
    unpack,
)
from mlguard.audit.log.file import USE, AuditLog, now, open_log

__all__ = [
    "SCHEMA",
    "USE",
    "AttackEnded",
    "Attacked",
    "AuditLog",
    "Controlled",
    "Counted",
    "Decided",
    "Ended",
    "Event",
    "Model",
    "NearbyPoint",
    "Source",
    "Started",
    "dump_event",
    "now",
    "open_log",
    "pack",
    "parse_event",
    "unpack",
]
