from collections.abc import Iterator
from pathlib import Path

import pytest

from keystore import Identity, Keystore, Passphrase, WorkFactor
from tests.keystore.databases import Postgres, running_postgres
from tests.keystore.tokens import SoftToken, new_token

LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)  # 20 ms, not 0.5 s
SECRET = b"\x07" * 32


@pytest.fixture
def identity() -> Identity:
    return Identity(bytes(range(32)))


@pytest.fixture
def passphrase() -> Passphrase:
    return Passphrase("right", work=LIGHT)


@pytest.fixture
def path(tmp_path: Path, identity: Identity) -> Path:
    """A keystore holding one key, "unet", that the identity opens."""
    path = tmp_path / "keystore.mlgk"
    with Keystore.create(path, identity) as store:
        store.add("unet", SECRET)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    pytest.importorskip("sqlalchemy")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'team.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url()


@pytest.fixture(scope="session")
def soft_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    """One token for the whole run: a process loads a module once."""
    token = new_token(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.environment.items():
            patch.setenv(name, value)
        yield token
