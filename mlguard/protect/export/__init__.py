"""Turn a finished run into a bundle: no file is written that was not compared."""

from mlguard.protect.export.bundle import (
    bundle_model,
    check_exportable,
    export_run,
    facts_of,
)
from mlguard.protect.export.graph import cause_of, export_graph
from mlguard.protect.export.parity import (
    REFUSALS,
    ParityReport,
    check_parity,
    example_images,
)

__all__ = [
    "REFUSALS",
    "ParityReport",
    "bundle_model",
    "cause_of",
    "check_exportable",
    "check_parity",
    "example_images",
    "export_graph",
    "export_run",
    "facts_of",
]
