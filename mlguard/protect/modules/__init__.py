"""Protect any torch module: every weight is sealed, whatever the layers."""

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
