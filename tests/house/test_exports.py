"""Every room says what is public, and all of it can be imported."""

import importlib

import pytest

ROOMS = [
    "keystore",
    "mlguard.sealing",
    "mlguard.foreign",
    "mlguard.marks",
    "mlguard.weights",
    "mlguard.transforms",
    "mlguard.data",
    "mlguard.models",
    "mlguard.pictures",
]
ROOMS += ["mlguard.bundle", "mlguard.runtime", "mlguard.protect", "mlguard.audit"]


@pytest.mark.parametrize("room", ROOMS)
def test_room_lists_its_public_names_in_order(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__all__
    assert list(module.__all__) == sorted(module.__all__, key=_isort)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def _isort(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    if name.isupper():
        return 0, name
    return (1, name) if name[0].isupper() else (2, name)
