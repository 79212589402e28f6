"""Measurements are programs of their own; here their modules can be imported."""

import sys
from pathlib import Path

import pytest

from tests.exports import exporter_is_asked_once

__all__ = ["exporter_is_asked_once"]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # Their names are plain ones: none may stay for other tests.
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if Path(file).parent == BENCHMARKS:
            del sys.modules[name]
