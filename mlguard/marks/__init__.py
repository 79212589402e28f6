"""Mark each customer's weights, and find whose copy has leaked.

The room works on plain weights, as numpy arrays by name, and knows no bundle, no file
and no torch. Its specification is docs/spec/marks-v1.md.
"""

from mlguard.marks.code import GRANT_ID_BYTES
from mlguard.marks.embedding import AMPLITUDE, embed, mark, markable
from mlguard.marks.tracing import (
    MAX_FALSE_ALARM,
    Evidence,
    Finding,
    Trace,
    gather,
    trace,
)

__all__ = [
    "AMPLITUDE",
    "GRANT_ID_BYTES",
    "MAX_FALSE_ALARM",
    "Evidence",
    "Finding",
    "Trace",
    "embed",
    "gather",
    "mark",
    "markable",
    "trace",
]
