"""The test kit: files made by someone else from the specification alone."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import keystore
from keystore import Identity, Keystore, MemoryStorage, Passphrase

FOLDER = Path(__file__).parents[1] / "vectors" / "keystore"
FILES = sorted(FOLDER.glob("*.test"))


@dataclass
class Vector:
    """One file of the test kit."""

    fields: dict[str, list[str]]
    data: bytes

    @classmethod
    def load(cls, path: Path) -> "Vector":
        text, _, data = path.read_bytes().partition(b"\n\n")
        fields: dict[str, list[str]] = {}
        for line in text.decode().split("\n"):
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(value)
        return cls(fields, data)

    def open(self) -> Keystore:
        return Keystore.open(MemoryStorage(self.data, location="vector"), self.opener())

    def opener(self) -> Identity | Passphrase:
        if "identity" in self.fields:
            return Identity.parse(self.fields["identity"][0])
        return Passphrase(self.fields["passphrase"][0])


def everything(store: Keystore) -> list[str]:
    """Each usable secret, as the test kit writes it. Reads every entry."""
    return [
        f"{name} {version.id} {store.get(name, version.id).hex()}"
        for name in store.names()
        for version in store.info(name).versions
        if version.state == "enabled"
    ]


def test_the_kit_is_there() -> None:
    assert len(FILES) >= 150


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_opens_or_is_refused_as_the_kit_says(path: Path) -> None:
    vector = Vector.load(path)
    (expect,) = vector.fields["expect"]
    if expect == "success":
        store = vector.open()
        assert everything(store) == vector.fields.get("secret", [])
        return
    with pytest.raises(getattr(keystore, expect), match="vector: "):
        everything(vector.open())
