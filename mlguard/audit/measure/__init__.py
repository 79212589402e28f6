"""Show every image under every condition, and count. Needs torch."""

from mlguard.audit.measure.counting import CORRECT, NO_KEY, Progress, measure
from mlguard.audit.measure.share import shared, tell

__all__ = [
    "CORRECT",
    "NO_KEY",
    "Progress",
    "measure",
    "shared",
    "tell",
]
