from pathlib import Path

import pytest

from tests.exports import exporter_is_asked_once

__all__ = ["exporter_is_asked_once"]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What mlguard remembers between runs stays inside the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("MLGUARD_IDENTITY_FILE", "MLGUARD_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
