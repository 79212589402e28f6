"""Run the model on every image under every condition, and count. Needs torch."""

from mlguard.audit.measure.counting import Progress, Tried, measure
from mlguard.audit.measure.share import dealt, shared, tell

__all__ = [
    "Progress",
    "Tried",
    "dealt",
    "measure",
    "shared",
    "tell",
]
