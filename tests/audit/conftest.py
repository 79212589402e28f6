"""What tests of audits share: a small run, and a budget that is spent in a moment."""

import pytest

from mlguard.audit.findings.budgets import BUDGETS
from mlguard.protect.run_folder import Run
from tests.audits import TINY, make_run
from tests.exports import exporter_is_asked_once

__all__ = ["exporter_is_asked_once"]


@pytest.fixture
def tiny_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget `quick` with a handful of guesses and two steps of training."""
    monkeypatch.setitem(BUDGETS, "quick", TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An untrained run and its plain twin; a module has one of its own."""
    return make_run(tmp_path_factory.mktemp("audit") / "run", baseline=True)
