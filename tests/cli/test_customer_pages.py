"""The pages about customers: every command on them is typed, in their order."""

import os
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from keystore import Identity
from mlguard.cli.app import run
from tests.cli.test_issue import office  # noqa: F401 - a fixture
from tests.cli.test_keystore_pages import commands_of
from tests.issuing.test_issue import write_big

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "customers"
PAGES = ("issue", "leaked-model", "open")
BIG = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
RENEW = ["renew", "hospital.mlgb", "--key", "acme", "--out", "hospital.grant"]
REVOKE = ["revoke", "clinic.mlgb", "--key", "acme", "--list", "revoked.list"]
TO_ME = ["issue", "acme.mlgb", "--key", "acme", "--licensee", "Hospital A"]


def type_in(commands: list[str], folder: Path, program: Path) -> str:
    """Type commands in a folder, stopping at the first that fails."""
    done = subprocess.run(
        ["sh", "-ex"],
        input="\n".join(commands),
        cwd=folder,
        env=os.environ
        | {
            "PATH": f"{program}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(folder / "config"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def page(name: str) -> list[str]:
    return commands_of(FOLDER / f"{name}.md")


def test_every_page_is_typed_below() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(PAGES)
    assert all(page(name) for name in PAGES)


def test_the_owners_page_works(
    office: Path,  # noqa: F811 - the fixture
    loaded_program: Path,
) -> None:
    (office / "licence.txt").write_text("Not for resale.\n")
    (office / "owner.pub").unlink()
    once, *others = page("issue")
    assert once == "mlguard signer new"
    said = type_in(others, office, loaded_program)  # the fixture has a signer
    assert "Hospital A" in said
    assert (office / "hospital.grant").exists()
    assert (office / "revoked.list").exists()
    assert (office / "clinic.mlgb").exists()


def test_the_customers_page_works(
    office: Path,  # noqa: F811 - the fixture
    loaded_program: Path,
) -> None:
    first, *others = page("open")
    recipient = type_in([first], office, loaded_program).strip()
    assert run([*TO_ME, "--to", recipient, "--out", "hospital.mlgb"]) == 0
    clinics = ["issue", "acme.mlgb", "--key", "acme", "--licensee", "Clinic B"]
    assert run([*clinics, "--to", "clinic.pub", "--out", "clinic.mlgb"]) == 0
    for command in (RENEW, REVOKE):
        assert run(command) == 0
    (office / "photos").mkdir()
    Image.fromarray(np.zeros((24, 20, 3), np.uint8)).save(office / "photos/one.jpg")
    assert "Hospital A" in type_in(others, office, loaded_program)
    assert (office / "masks" / "one.png").exists()
    assert (office / "masks-2" / "one.png").exists()


def test_the_page_about_a_leak_works(
    office: Path,  # noqa: F811 - the fixture
    loaded_program: Path,
) -> None:
    (office / "acme.mlgb").unlink()
    write_big(office / "acme.mlgb", BIG)
    me = Identity.generate()
    assert run([*TO_ME, "--to", me.recipient, "--out", "hospital.mlgb"]) == 0
    leak_of(office, me)
    assert "Hospital A" in type_in(page("leaked-model"), office, loaded_program)


def leak_of(folder: Path, customer: Identity) -> None:
    """What the customer has in memory, in a file."""
    from mlguard.bundle import glimpse_bundle
    from mlguard.cli.parties import Holder
    from mlguard.issuing import open_issued

    bundle = glimpse_bundle(folder / "hospital.mlgb")
    opened = bundle.unlock(open_issued(bundle, Holder(customer)))
    ((_, data),) = opened.tensors(opened.graph().rows)
    weight = data.view(np.float32).reshape(BIG.shape)
    save_file({"w": weight}, folder / "leak.safetensors")
