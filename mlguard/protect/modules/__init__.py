"""Any torch module under a key: every weight sealed, no layer looked at."""

from mlguard.protect.modules.about import Answer, Pixels
from mlguard.protect.modules.bind import BoundModule, bind
from mlguard.protect.modules.program import bind_program
from mlguard.protect.modules.sizes import Sizes, find_sizes

__all__ = [
    "Answer",
    "BoundModule",
    "Pixels",
    "Sizes",
    "bind",
    "bind_program",
    "find_sizes",
]
