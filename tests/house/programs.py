"""Programs of the docs and benchmarks, which lie in no package, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def program(place: str) -> ModuleType:
    """Load a program; what it adds to the search path is taken away again.

    Args:
        place: Its file, below the checkout's root.
    """
    path = ROOT / place
    spec = importlib.util.spec_from_file_location(f"{path.stem}_program", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module
