"""A mark of their own in every customer's weights, and whose copy a leak is.

Works on plain weights as numpy arrays by name; knows no bundle, no file and no torch.
Written down in docs/spec/marks-v1.md.
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
