"""Turn a finished run into a bundle, compared with its model before it is written."""

from mlguard.protect.export.bundle import (
    bundle_model,
    check_exportable,
    export_run,
    facts_of,
)
from mlguard.protect.export.graph import (
    cause_of,
    export_graph,
    export_light,
    export_open_graph,
)
from mlguard.protect.export.halves import cut, private_model
from mlguard.protect.export.light import LightGraph, light_graph, serialized
from mlguard.protect.export.parity import (
    MAX_DIFFERENCE,
    REFUSALS,
    ParityReport,
    check_parity,
    example_images,
)
from mlguard.protect.export.precision import Rounding
from mlguard.protect.export.slots import WithSlots, example_slots

__all__ = [
    "MAX_DIFFERENCE",
    "REFUSALS",
    "LightGraph",
    "ParityReport",
    "Rounding",
    "WithSlots",
    "bundle_model",
    "cause_of",
    "check_exportable",
    "check_parity",
    "cut",
    "example_images",
    "example_slots",
    "export_graph",
    "export_light",
    "export_open_graph",
    "export_run",
    "facts_of",
    "light_graph",
    "private_model",
    "serialized",
]
