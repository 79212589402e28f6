"""Step 7: measure what an unauthorized user still gets, and report it.

Importing this room does not load torch, so that a report can be read anywhere; the
measuring itself, in `mlguard.audit.run`, needs it.
"""

from mlguard.audit.findings import (
    Findings,
    Flag,
    IncorrectKeys,
    Interval,
    NearbyKeys,
    Score,
)
from mlguard.audit.report import (
    AuditReport,
    read_report,
    render_page,
    report_folder,
    report_table,
    write_report,
)

__all__ = [
    "AuditReport",
    "Findings",
    "Flag",
    "IncorrectKeys",
    "Interval",
    "NearbyKeys",
    "Score",
    "read_report",
    "render_page",
    "report_folder",
    "report_table",
    "write_report",
]
