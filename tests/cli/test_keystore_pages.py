"""The pages about the keystore: every command on them is typed, in their order."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import Identity, Keystore, Passphrase
from tests.keystore.conftest import postgres, soft_token  # noqa: F401
from tests.keystore.databases import PASSWORD
from tests.typed_pages import commands_in

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "keystore").glob("*.md"))


NEEDS: dict[str, Callable[[pytest.FixtureRequest], dict[str, str]]] = {
    "SOFTHSM2_MODULE": lambda request: {
        "SOFTHSM2_MODULE": request.getfixturevalue("soft_token").module
    },
    "TEAM_DATABASE": lambda request: {
        "TEAM_DATABASE": request.getfixturevalue("postgres").url(password=False),
        "PGPASSWORD": PASSWORD,
    },
}


def commands_of(page: Path) -> list[str]:
    return commands_in(page.read_text())


@pytest.fixture
def environment(tmp_path: Path, loaded_program: Path) -> dict[str, str]:
    """What the pages take for granted: a store with "acme", and who may open it."""
    store = Keystore.create(tmp_path / "keystore.mlgk", Passphrase("old"))
    store.add("acme", bytes(range(32)))
    store.add_use("acme", "run", "runs/acme")
    mine, recovery = Identity.generate(), Identity.generate()
    mine.write(tmp_path / "mine.txt")
    store.add_slot(mine, label="mine")
    store.add_slot(recovery, label="recovery")
    (tmp_path / "sheet").write_text(recovery.reveal().replace("-", "\n"))
    for name, text in (("old", "old"), ("new", "new"), ("pin", "471147")):
        (tmp_path / f"{name}.txt").touch(0o600)
        (tmp_path / f"{name}.txt").write_text(text)
    return os.environ | {
        "PATH": f"{loaded_program}:{os.environ['PATH']}",
        "MLGUARD_KEYSTORE": str(tmp_path / "keystore.mlgk"),
        "MLGUARD_IDENTITY_FILE": str(tmp_path / "mine.txt"),
    }


def test_the_pages_are_there() -> None:
    assert len(PAGES) >= 5
    assert all(commands_of(page) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_works(
    page: Path,
    tmp_path: Path,
    environment: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    for word, needed in NEEDS.items():
        if word in page.read_text():
            environment |= needed(request)
    done = subprocess.run(
        ["sh", "-ex"],
        input="\n".join(commands_of(page)),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
