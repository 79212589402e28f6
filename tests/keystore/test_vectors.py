"""The test kit: files made by someone else from the specification alone."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import keystore
from keystore import Identity, Keystore, MemoryStorage, Passphrase
from keystore.slots import Opener
from tests.keystore.tokens import SoftToken

FOLDERS = [Path(__file__).parents[1] / "vectors" / n for n in ("keystore", "keystore2")]
FILES, FILES_2 = (sorted(folder.glob("*.test")) for folder in FOLDERS)


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

    def opener(self, request: pytest.FixtureRequest) -> Opener:
        if "identity" in self.fields:
            return Identity.parse(self.fields["identity"][0])
        if "passphrase" in self.fields:
            return Passphrase(self.fields["passphrase"][0])
        soft_token: SoftToken = request.getfixturevalue("soft_token")
        key_id, key = map(bytes.fromhex, self.fields["token"][0].split())
        return soft_token.holding(key_id, key)


def everything(store: Keystore) -> list[str]:
    """Each usable secret, as the test kit writes it. Reads every entry."""
    return [
        f"{name} {version.id} {store.get(name, version.id).hex()}"
        for name in store.names()
        for version in store.info(name).versions
        if version.state == "enabled"
    ]


def test_the_kit_is_there() -> None:
    assert len(FILES) >= 200
    assert len(FILES_2) >= 80


def test_the_kit_has_files_for_every_kind_of_opener() -> None:
    """Those for a token need SoftHSM2, and are skipped where it is missing."""
    vectors = [Vector.load(path).fields for path in FILES]
    for kind in ("identity", "passphrase", "token"):
        expected = {fields["expect"][0] for fields in vectors if kind in fields}
        assert {"success", "NoSlotOpens"} < expected


@pytest.mark.parametrize(
    "path", FILES + FILES_2, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_file_opens_or_is_refused_as_the_kit_says(
    path: Path, request: pytest.FixtureRequest
) -> None:
    vector = Vector.load(path)
    storage = MemoryStorage(vector.data, location="vector")
    opener = vector.opener(request)
    (expect,) = vector.fields["expect"]
    if expect == "success":
        store = Keystore.open(storage, opener)
        assert everything(store) == vector.fields.get("secret", [])
        return
    with pytest.raises(getattr(keystore, expect), match="vector: "):
        everything(Keystore.open(storage, opener))
