"""`mlguard issue` and what goes with it, as an owner and a customer type it."""

import json
from pathlib import Path

import numpy as np
import pytest

from keystore import Identity, Keystore
from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.cli import trust
from mlguard.cli.app import run
from mlguard.cli.parties import Holder
from mlguard.issuing import Conditions, open_issued
from mlguard.weights import save_file
from tests.bundles import KEY
from tests.bundles2 import shuffled, small2_bytes


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An owner's folder: a keystore with a model key and a signer, and a bundle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "folder", lambda: tmp_path / "trusted")
    identity = Identity.generate()
    identity.write(tmp_path / "owner.identity")
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "k.mlgk"))
    with Keystore.create(tmp_path / "k.mlgk", identity) as store:
        store.add("acme", KEY.reveal())
    (tmp_path / "acme.mlgb").write_bytes(small2_bytes(image=shuffled()))
    assert run(["signer", "new"]) == 0
    assert run(["signer", "show", "--out", "owner.pub"]) == 0
    for name in ("hospital", "clinic"):
        assert run(["identity", "new", f"{name}.identity"]) == 0
        line = Identity.read(tmp_path / f"{name}.identity").recipient
        (tmp_path / f"{name}.pub").write_text(line + "\n")
    return tmp_path


ISSUE = ["issue", "acme.mlgb", "--key", "acme", "--to", "hospital.pub"]
TO_HOSPITAL = [*ISSUE, "--licensee", "Hospital A", "--out", "hospital.mlgb"]


def opens(file: str, identity: str, **conditions: object) -> bool:
    bundle = glimpse_bundle(Path(file))
    assert isinstance(bundle, Bundle2)
    holder = Holder(Identity.read(Path(identity)))
    return bool(open_issued(bundle, holder, Conditions(**conditions)).content_key)


def test_an_owner_issues_and_the_customer_opens(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*TO_HOSPITAL, "--not-after", "2099-12-31"]) == 0
    out = capsys.readouterr().out
    assert "for Hospital A  from now until 2099-12-31" in out
    assert opens("hospital.mlgb", "hospital.identity")


def test_the_keystore_and_the_ledger_know_what_was_issued(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    capsys.readouterr()
    assert run(["issued", "acme", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["kind"], entry["licensee"]) == ("issued", "Hospital A")
    with Keystore.open(
        office / "k.mlgk", Identity.read(office / "owner.identity")
    ) as store:
        (use,) = store.info("acme").uses
    assert (use.kind, use.reference) == ("issued", entry["grant_id"])


def test_a_ledger_that_was_cut_is_noticed(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    (office / "k.mlgk.issued").write_bytes(b"")
    assert run(["issued", "acme"]) == 20
    assert "lacks 1 grants that the keystore knows" in capsys.readouterr().err


def test_a_ledger_that_was_edited_stops_everything(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    book = office / "k.mlgk.issued"
    book.write_bytes(book.read_bytes().replace(b"payload", b"pay1oad", 1))
    assert run([*ISSUE, "--licensee", "B", "--out", "b.mlgb"]) == 23
    assert not (office / "b.mlgb").exists()


def test_several_customers_get_a_file_each(office: Path) -> None:
    arguments = [*ISSUE, "--to", "clinic.pub", "--out", "files"]
    both = ["--licensee", "Hospital A", "--licensee", "Clinic/B"]
    assert run([*arguments, *both]) == 0
    names = sorted(path.name for path in (office / "files").iterdir())
    assert names == ["acme-Clinic-B.mlgb", "acme-Hospital-A.mlgb"]
    assert opens("files/acme-Clinic-B.mlgb", "clinic.identity")


def test_a_customer_without_a_name_is_refused_before_anything_is_written(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*ISSUE, "--to", "clinic.pub", "--licensee", "A", "--out", "files"]
    assert run(arguments) == 40
    assert "a --licensee for each --to" in capsys.readouterr().err
    assert not (office / "files").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (
            ["--not-after", "tomorrow"],
            40,
            "expected a day of the calendar as YYYY-MM-DD",
        ),
        (["--not-before", "2027-01-02", "--not-after", "2027-01-01"], 40, "before"),
        (["--terms", "nothing.txt"], 40, "nothing.txt"),
        (["--signer", "nobody"], 15, "signer new"),
        (["--signer", "acme"], 15, "not for signing"),
        (["--key", "nobody"], 15, "nobody"),
        (["--to", "mlguard-recipient-1-x25519-abc"], 11, "is incomplete"),
    ],
)
def test_bad_input_is_a_sentence_and_no_file(
    office: Path, capsys: pytest.CaptureFixture[str], more, code: int, said: str
) -> None:
    given = ["--licensee", "B"] if "--to" in more else []
    assert run([*TO_HOSPITAL, *given, *more]) == code
    assert said in capsys.readouterr().err
    assert not list(office.glob("hospital.mlgb*"))


def test_a_bundle_of_format_1_is_not_issued(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = Path(__file__).parents[1] / "golden" / "v0.1" / "shf.mlgb"
    (office / "acme.mlgb").write_bytes(golden.read_bytes())
    assert run(TO_HOSPITAL) == 20
    assert "is of format 1" in capsys.readouterr().err


def test_a_grant_is_renewed_without_the_model(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*TO_HOSPITAL, "--not-after", "2020-01-01"]) == 0
    renew = ["renew", "hospital.mlgb", "--key", "acme", "--not-after", "2099-12-31"]
    assert run([*renew, "--out", "hospital.grant"]) == 0
    assert "for Hospital A" in capsys.readouterr().out
    assert (office / "hospital.grant").stat().st_size < 8000
    given = (office / "hospital.grant").read_bytes()
    assert opens("hospital.mlgb", "hospital.identity", grant=given)


def test_a_grant_is_revoked_on_a_numbered_list(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    revoke = ["revoke", "hospital.mlgb", "--key", "acme", "--list", "revoked.list"]
    assert run(revoke) == 0
    assert "list 1  1 revoked" in capsys.readouterr().out
    assert run(revoke) == 0
    assert "list 2  1 revoked" in capsys.readouterr().out


def test_verify_names_the_signer(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    assert run(["verify", "hospital.mlgb", "--signer", "owner.pub"]) == 0
    assert "unchanged since" in capsys.readouterr().out
    assert run(["verify", "acme.mlgb", "--signer", "owner.pub"]) == 23
    assert "is not signed" in capsys.readouterr().err


def test_without_a_signer_nothing_is_verified(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    assert run(["verify", "hospital.mlgb"]) == 23
    assert "no signer is trusted on this machine" in capsys.readouterr().err
    assert run(["signer", "trust", "owner.pub"]) == 0
    assert run(["verify", "hospital.mlgb"]) == 0
    capsys.readouterr()
    assert run(["signer", "list"]) == 0
    assert len(capsys.readouterr().out.strip()) == 64


def test_a_file_that_is_no_public_key_is_no_signer(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["signer", "trust", "hospital.pub"]) == 23
    assert "not a P-256 public key" in capsys.readouterr().err


def test_no_secret_is_printed_or_written(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    identity = Identity.read(office / "hospital.identity").reveal()
    said = "".join(capsys.readouterr())
    written = (office / "hospital.mlgb").read_bytes()
    for secret in (KEY.reveal().hex(), identity):
        assert secret not in said
        assert secret.encode() not in written
    assert KEY.reveal() not in written


def test_a_revoked_grant_is_not_renewed(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    run(["revoke", "hospital.mlgb", "--key", "acme", "--list", "revoked.list"])
    assert run(["renew", "hospital.mlgb", "--key", "acme", "--out", "x.grant"]) == 22
    assert "was revoked, by your ledger" in capsys.readouterr().err
    assert not (office / "x.grant").exists()


def test_a_list_begun_anew_still_has_what_was_revoked(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TO_HOSPITAL)
    to_clinic = ["--to", "clinic.pub", "--licensee", "Clinic", "--out", "clinic.mlgb"]
    run(["issue", "acme.mlgb", "--key", "acme", *to_clinic])
    run(["revoke", "hospital.mlgb", "--key", "acme", "--list", "a.list"])
    capsys.readouterr()
    run(["revoke", "clinic.mlgb", "--key", "acme", "--list", "b.list"])
    assert "list 2  2 revoked" in capsys.readouterr().out


def test_a_last_day_that_is_over_is_warned_of(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*TO_HOSPITAL, "--not-after", "2020-01-01"]) == 0
    assert "warning: the last day, 2020-01-01, has passed" in capsys.readouterr().err


def test_a_recipient_that_is_no_file_is_named_as_that(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--to", "nobody.pub", "--licensee", "A", "--out", "a.mlgb"]
    assert run(["issue", "acme.mlgb", "--key", "acme", *arguments]) == 11
    assert "nobody.pub is neither a recipient" in capsys.readouterr().err


def test_a_file_of_weights_is_refused_with_what_to_do(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"w": np.ones(4, "f4")}, office / "acme.safetensors", KEY)
    words = ["issue", "acme.safetensors", "--key", "acme", "--to", "hospital.pub"]
    assert run([*words, "--licensee", "A", "--out", "a.safetensors"]) == 40
    told = capsys.readouterr().err
    assert "is a file of weights, which has no place for a grant" in told
    assert "export the model it belongs to" in told
    assert not (office / "a.safetensors").exists()
