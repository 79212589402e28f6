from pathlib import Path

import pytest

from keystore import WorkFactor
from tests.exports import exporter_is_asked_once
from tests.loaded import LIGHT, loaded_program

__all__ = ["exporter_is_asked_once", "loaded_program"]


@pytest.fixture(autouse=True)
def _light_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase is tried in 20 ms of one core, not in half a second of two."""
    monkeypatch.setattr(WorkFactor.__init__, "__kwdefaults__", LIGHT)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What mlguard remembers between runs stays inside the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("MLGUARD_IDENTITY_FILE", "MLGUARD_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
