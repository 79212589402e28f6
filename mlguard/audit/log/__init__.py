"""The log of an audit: every event is on the disk before the next begins. No torch."""

from mlguard.audit.log.events import (
    SCHEMA,
    Attacked,
    AttackEnded,
    Controlled,
    Counted,
    Decided,
    Ended,
    Event,
    LeftOut,
    Model,
    Started,
    dump_event,
    pack,
    parse_event,
    unpack,
)
from mlguard.audit.log.file import PROOF_USE, USE, AuditLog, now, open_log, read_log
from mlguard.audit.log.recompute import attacks_of, measured_of

__all__ = [
    "PROOF_USE",
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
    "LeftOut",
    "Model",
    "Started",
    "attacks_of",
    "dump_event",
    "measured_of",
    "now",
    "open_log",
    "pack",
    "parse_event",
    "read_log",
    "unpack",
]
