"""The customer's commands: predict and selftest with an identity, no keystore."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.bundle import glimpse_bundle
from mlguard.cli.app import run
from tests.bundles import images
from tests.cli.test_issue import TO_HOSPITAL, office  # noqa: F401 - a fixture


@pytest.fixture
def desk(office: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A customer's folder: his identity and his file, and no keystore."""
    run(TO_HOSPITAL)
    for name in ("MLGUARD_IDENTITY_FILE", "MLGUARD_KEYSTORE"):
        monkeypatch.delenv(name)
    (office / "photos").mkdir()
    pixels = np.moveaxis(images(1, 3, 24, 20)[0], 0, 2)
    Image.fromarray(pixels).save(office / "photos" / "one.png")
    return office


PREDICT = ["predict", "hospital.mlgb", "photos", "--out", "masks"]
MINE = ["--identity", "hospital.identity"]


def test_a_customer_predicts_without_a_keystore(desk: Path) -> None:
    (desk / "k.mlgk").unlink()
    assert run([*PREDICT, *MINE]) == 0
    assert (desk / "masks" / "one.png").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ([], 20, "give --identity FILE"),
        (["--identity", "clinic.identity"], 21, "was issued to 'Hospital A'"),
        (["--identity", "nothing"], 11, "nothing"),
        ([*MINE, "--grant", "nothing"], 40, "nothing"),
        ([*MINE, "--grant", "hospital.pub"], 23, "JSON object"),
        ([*MINE, "--signer", "hospital.pub"], 23, "not a P-256 public key"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(
    desk: Path, capsys: pytest.CaptureFixture[str], more, code: int, said: str
) -> None:
    assert run([*PREDICT, *more]) == code
    assert said in capsys.readouterr().err
    assert not (desk / "masks").exists()


def test_a_trusted_signer_is_asked_for_from_then_on(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["signer", "trust", "owner.pub"]) == 0
    assert run([*PREDICT, *MINE]) == 0
    whole = (desk / "hospital.mlgb").read_bytes()
    (desk / "hospital.mlgb").write_bytes(whole[:-200] + bytes(200))
    capsys.readouterr()
    assert run(["predict", "hospital.mlgb", "photos", "--out", "b", *MINE]) == 20


def test_the_list_that_the_machine_names_is_obeyed_without_an_option(
    office: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(TO_HOSPITAL)
    run(["revoke", "hospital.mlgb", "--key", "acme", "--list", "revoked.list"])
    assert run(["selftest", "hospital.mlgb", *MINE, "--signer", "owner.pub"]) == 0
    assert "trust" not in capsys.readouterr().err
    assert run(["selftest", "hospital.mlgb", *MINE]) == 0
    assert "`mlguard signer trust`" in capsys.readouterr().err
    monkeypatch.setenv("MLGUARD_REVOCATIONS_FILE", "revoked.list")
    assert run(["selftest", "hospital.mlgb", *MINE, "--signer", "owner.pub"]) == 22
    assert "revoked" in capsys.readouterr().err
    monkeypatch.setenv("MLGUARD_REVOCATIONS_FILE", "nothing")
    assert run(["selftest", "hospital.mlgb", *MINE]) == 40
    assert run(["selftest", "acme.mlgb", "--key", "acme"]) == 0, "no list is for it"


def test_selftest_says_what_it_compared(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["selftest", "hospital.mlgb", *MINE]) == 0
    out = capsys.readouterr().out
    assert "computes the same as on the owner's machine" in out
    assert "returned finite numbers" in out


def test_an_owners_bundle_asks_for_a_key(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "acme.mlgb", "photos", "--out", "masks"]
    assert run([*arguments, *MINE]) == 20
    assert "give --key NAME" in capsys.readouterr().err


def test_the_export_that_was_demanded_and_no_other(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["inspect", "hospital.mlgb", "--json"]) == 0
    digest = glimpse_bundle(desk / "hospital.mlgb").digest
    assert digest in capsys.readouterr().out
    assert run([*PREDICT, *MINE, "--manifest-sha256", "00" * 32]) == 20
    assert "not the export demanded" in capsys.readouterr().err
    assert not (desk / "masks").exists()
    assert run([*PREDICT, *MINE, "--manifest-sha256", digest]) == 0
