"""The file of what a program measured, cell by cell: it can be stopped and started."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlguard.files import atomic_write

Measure = Callable[[], dict[str, Any]]


class Cells:
    """The cells of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = {}
        if path.exists():
            self.found = json.loads(path.read_text())

    def fill(self, pieces: Iterable[tuple[str, Measure]], *, only: str) -> None:
        """Measure what is missing and has a text in its name; each is kept at once."""
        for name, measure in pieces:
            if name in self.found or only not in name:
                continue
            since = time.monotonic()
            found = measure()
            self.add(name, found | {"seconds": round(time.monotonic() - since, 1)})
            print(name, json.dumps(found)[:300], flush=True)

    def add(self, name: str, cell: dict[str, Any]) -> None:
        self.found[name] = cell
        text = json.dumps(dict(sorted(self.found.items())), indent=1) + "\n"
        atomic_write(self.path, text.encode())
