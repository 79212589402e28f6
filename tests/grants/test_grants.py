"""A grant opens one file for one recipient, on its days, and not once it is edited."""

import pickle
from datetime import date

import pytest

from mlguard.errors import (
    Expired,
    MalformedBundle,
    NotYetValid,
    OptionError,
    Revoked,
    SignatureNotTrusted,
    WrongKey,
)
from mlguard.grants import (
    Grant,
    Revocations,
    Secrets,
    Terms,
    new_grant_id,
    read_grant,
    read_revocations,
    sign_grant,
    sign_revocations,
)
from mlguard.signing import seal_envelope
from tests.grants.people import CLINIC, HOSPITAL, OWNER, STRANGER

SECRETS = Secrets(bytes(16), "ab" * 8, bytes(range(32)), {"shf/m=4/c=3": bytes(32)})
TERMS = Terms("Hospital A", date(2026, 1, 1), date(2026, 12, 31), "Not for resale.")
GRANT_ID = "12" * 16


def grant(recipient=HOSPITAL, terms=TERMS, **changes) -> Grant:
    fields = {
        "bundle_sha256": "cd" * 32,
        "grant_id": GRANT_ID,
        "signer": OWNER.public,
    } | changes
    return Grant.of(terms, SECRETS, recipient, **fields)


def test_the_recipient_unwraps_what_the_file_needs() -> None:
    read = read_grant(sign_grant(grant(), OWNER), [OWNER.public], name="it")
    opened = read.unwrap(HOSPITAL, name="it")
    assert opened.content_key == SECRETS.content_key
    assert opened.derive("shf/m=4/c=3") == bytes(32)


def test_a_grant_covers_no_other_use() -> None:
    with pytest.raises(WrongKey, match="does not cover 'np/m=4/c=3'"):
        grant().unwrap(HOSPITAL, name="it").derive("np/m=4/c=3")


def test_another_customer_is_told_whose_it_is() -> None:
    with pytest.raises(WrongKey, match="issued to 'Hospital A'") as refusal:
        grant().unwrap(CLINIC, name="it")
    assert "recipient-clinic" in str(refusal.value)


EDITS = {
    "grant_id": "13" * 16,
    "bundle_sha256": "ce" * 32,
    "protection_id": "01" * 16,
    "key_id": "cd" * 8,
    "signer": STRANGER.public.pem.decode(),
    "licensee": "Hospital B",
    "terms": "",
    "issued": "2020-01-01T00:00:00Z",
    "not_before": "2025-01-01",
    "not_after": "2099-12-31",
    "revocations": 7,
}


def test_every_field_is_edited_below() -> None:
    assert set(EDITS) == set(Grant.model_fields) - {"format", "recipient", "wrapped"}


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_field_is_under_the_signature(field: str) -> None:
    signed = sign_grant(grant(), OWNER)
    edited = grant().model_copy(update={field: EDITS[field]})
    forged = sign_grant(edited, STRANGER)
    assert signed != forged
    with pytest.raises(SignatureNotTrusted, match="not one of the trusted signers"):
        read_grant(forged, [OWNER.public], name="it")


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_field_keeps_the_secrets_wrapped(field: str) -> None:
    """Even whoever signs it anew cannot move what was wrapped."""
    edited = grant().model_copy(update={field: EDITS[field]})
    with pytest.raises(WrongKey, match="cannot unwrap"):
        edited.unwrap(HOSPITAL, name="it")


def test_a_grant_readdressed_to_another_opens_nothing() -> None:
    moved = grant().model_copy(update={"recipient": CLINIC.recipient})
    with pytest.raises(WrongKey, match="cannot unwrap"):
        moved.unwrap(CLINIC, name="it")


@pytest.mark.parametrize("day", [date(2026, 1, 1), date(2026, 12, 31)])
def test_first_and_last_day_count(day: date) -> None:
    grant().check_day(day, name="it")


def test_days_outside_are_refused() -> None:
    with pytest.raises(NotYetValid, match="from 2026-01-01 on, today is 2025-12-31"):
        grant().check_day(date(2025, 12, 31), name="it")
    with pytest.raises(Expired, match="until 2026-12-31, today is 2027-01-01"):
        grant().check_day(date(2027, 1, 1), name="it")


def test_a_grant_without_dates_is_always_valid() -> None:
    grant(terms=Terms("A")).check_day(date(1990, 1, 1), name="it")


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Terms(""), "licensee"),
        (Terms("A\x1b[2J"), "licensee: .*not a line of printable text"),
        (Terms("A" * 201), "licensee"),
        (Terms("A", date(2026, 2, 1), date(2026, 1, 1)), "ends on 2026-01-01, before"),
        (Terms("A", text="\x07"), "control characters"),
    ],
)
def test_terms_that_cannot_stand_in_a_grant_are_refused(terms, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        grant(terms=terms)


def test_another_spelling_of_a_signed_grant_is_refused() -> None:
    text = grant().to_bytes().replace(b'":"', b'": "', 1)
    data = seal_envelope(text, "application/vnd.mlguard.grant+json", OWNER)
    with pytest.raises(SignatureNotTrusted, match="canonical spelling"):
        read_grant(data, [OWNER.public], name="it")


def test_a_list_of_revoked_grants_is_no_grant() -> None:
    data = sign_revocations(Revocations.first(), OWNER)
    with pytest.raises(SignatureNotTrusted, match=r"expected .*grant\+json"):
        read_grant(data, [OWNER.public], name="it")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"content_key":"00","subkeys":{}}',
        b'{"content_key":"' + b"00" * 32 + b'","subkeys":{"a":1}}',
        b'{"subkeys":{},"content_key":"' + b"00" * 32 + b'"}',
        b"[" * 10_000,
    ],
)
def test_what_an_owner_never_wraps_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedBundle, match="does not hold the keys of a bundle"):
        Secrets.from_bytes(data, protection_id=bytes(16), key_id="ab" * 8, name="it")


def test_secrets_are_neither_shown_nor_pickled() -> None:
    assert bytes(range(32)).hex() not in repr(SECRETS)
    assert "content_key" not in repr(SECRETS)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(SECRETS)


def test_grant_ids_are_drawn() -> None:
    assert new_grant_id() != new_grant_id()


def listed(*grants: str) -> Revocations:
    revocations = Revocations.first()
    for one in grants:
        revocations = revocations.with_grant(one)
    data = sign_revocations(revocations, OWNER)
    return read_revocations(data, [OWNER.public], name="list")


def test_a_listed_grant_is_revoked_and_no_other() -> None:
    listed("00" * 16).check(grant(), seen=0, name="list")
    with pytest.raises(Revoked, match=r"of 'Hospital A' .* was revoked"):
        listed("00" * 16, GRANT_ID).check(grant(), seen=0, name="list")


def test_an_older_list_than_one_seen_is_refused() -> None:
    with pytest.raises(Revoked, match="expected number 2 or later, got number 1"):
        listed("00" * 16).check(grant(), seen=2, name="list")


def test_an_older_list_than_the_grant_knows_is_refused() -> None:
    with pytest.raises(Revoked, match="expected number 3 or later"):
        listed("00" * 16).check(grant(revocations=3), seen=0, name="list")


def test_a_foreign_list_is_refused() -> None:
    data = sign_revocations(Revocations.first(), STRANGER)
    with pytest.raises(SignatureNotTrusted):
        read_revocations(data, [OWNER.public], name="list")
