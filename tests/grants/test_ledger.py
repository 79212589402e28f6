"""The ledger holds what was issued, in order, and shows what was taken out of it."""

import pytest

from mlguard.errors import SignatureNotTrusted
from mlguard.grants import Ledger, read_ledger
from tests.grants.people import OWNER, STRANGER
from tests.grants.test_grants import GRANT_ID, grant


def line(ledger: Ledger, kind: str = "issued", signer=OWNER, **changes) -> bytes:
    return ledger.next_line(
        kind,
        grant(**changes),
        signer,
        time="2026-11-29T12:00:00Z",
        key_name="acme",
        file_sha256="ef" * 32,
        marked=True,
    )


@pytest.fixture
def lines() -> list[bytes]:
    found: list[bytes] = []
    for number in range(3):
        ledger = read_ledger(b"".join(found), OWNER.public, name="ledger")
        found.append(line(ledger, grant_id=f"{number:032x}"))
    return found


def test_an_empty_ledger_has_no_entries() -> None:
    assert read_ledger(b"", OWNER.public, name="ledger") == Ledger()


def test_entries_are_read_in_order(lines: list[bytes]) -> None:
    ledger = read_ledger(b"".join(lines), OWNER.public, name="ledger")
    assert [entry.number for entry in ledger.entries] == [0, 1, 2]
    assert ledger.entries[0].licensee == "Hospital A"
    assert [entry.number for entry in ledger.of(f"{1:032x}")] == [1]
    assert ledger.of(GRANT_ID) == ()


@pytest.mark.parametrize("gone", [0, 1])
def test_a_line_taken_out_is_noticed(lines: list[bytes], gone: int) -> None:
    del lines[gone]
    with pytest.raises(SignatureNotTrusted, match="a line is missing or was moved"):
        read_ledger(b"".join(lines), OWNER.public, name="ledger")


def test_lines_that_changed_places_are_noticed(lines: list[bytes]) -> None:
    with pytest.raises(SignatureNotTrusted, match="does not follow"):
        read_ledger(b"".join(reversed(lines)), OWNER.public, name="ledger")


def test_the_last_line_taken_out_changes_the_head(lines: list[bytes]) -> None:
    """Nothing in a shorter ledger is wrong: its head, kept elsewhere, shows it."""
    whole = read_ledger(b"".join(lines), OWNER.public, name="ledger")
    cut = read_ledger(b"".join(lines[:-1]), OWNER.public, name="ledger")
    assert whole.head != cut.head


def test_a_strangers_line_is_refused(lines: list[bytes]) -> None:
    ledger = read_ledger(b"".join(lines), OWNER.public, name="ledger")
    lines.append(line(ledger, signer=STRANGER))
    with pytest.raises(SignatureNotTrusted, match="line 4"):
        read_ledger(b"".join(lines), OWNER.public, name="ledger")


def test_half_a_line_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(SignatureNotTrusted, match="ends within a line"):
        read_ledger(b"".join(lines)[:-5], OWNER.public, name="ledger")
