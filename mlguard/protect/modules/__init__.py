"""Protect any torch module: every weight is sealed, and feature maps can be keyed."""

from mlguard.protect.modules.about import Answer, Pixels
from mlguard.protect.modules.bind import BoundModule, bind
from mlguard.protect.modules.layers import channel_permutations, permuted
from mlguard.protect.modules.program import bind_program
from mlguard.protect.modules.sizes import Sizes, find_sizes

__all__ = [
    "Answer",
    "BoundModule",
    "Pixels",
    "Sizes",
    "bind",
    "bind_program",
    "channel_permutations",
    "find_sizes",
    "permuted",
]
