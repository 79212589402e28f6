from pathlib import Path

import pytest

from keystore import WorkFactor
from tests.exports import exporter_is_asked_once

__all__ = ["exporter_is_asked_once"]

LIGHT = {"memory_kib": 8 * 1024, "iterations": 1, "lanes": 1}
# What starts a process of mlguard whose new passphrases are as light.
START = (
    "from keystore import WorkFactor; "
    f"WorkFactor.__init__.__kwdefaults__ = {LIGHT}; "
    "from mlguard.__main__ import main; main()"
)


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
