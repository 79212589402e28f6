"""A customer turned thief: he has his identity and file, and another customer's file.

He can open his own file, so he holds its content key and whatever his grant wraps. With
all that he must not open the other's file, make a grant for a third, stay on after
his last day where a loader looks, or change his file unseen.
"""

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    WriteBeside,
    bundle2_of,
    glimpse_bundle,
    write_bundle2,
)
from mlguard.bundle.archive2 import GRANT, MANIFEST, SIGNATURE, directory, place
from mlguard.errors import (
    Expired,
    MlguardError,
    Revoked,
    SignatureNotTrusted,
    TamperedBundle,
    WrongKey,
)
from mlguard.grants import (
    Grant,
    Revocations,
    Secrets,
    Terms,
    read_ledger,
    sign_grant,
    sign_revocations,
)
from mlguard.issuing import Conditions, SeenLists, open_issued, renew, verify_bundle
from mlguard.issuing.issue import model_of
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from mlguard.signing import read_envelope
from tests.bundles import KEY
from tests.grants.people import CLINIC, HOSPITAL, OWNER, STRANGER, Person
from tests.issuing.files import TERMS, TODAY, issued, owners, reading

PINNED = Conditions(today=TODAY, signers=[OWNER.public])
JUNE = Conditions(today=TODAY)
THIRD = Person("third", bytes(range(9, 41)))


@pytest.fixture
def loot(tmp_path: Path) -> "Loot":
    mine, theirs = issued(tmp_path, HOSPITAL), issued(tmp_path, CLINIC)
    return Loot(reading(mine.path), reading(theirs.path))


class Loot:
    """What the thief has: his file, opened, and the clinic's, closed."""

    def __init__(self, mine: Bundle2, theirs: Bundle2) -> None:
        self.mine, self.theirs = mine, theirs
        self.secrets = open_issued(mine, HOSPITAL, JUNE)
        self.grant = Grant.from_bytes(
            read_envelope(mine.grant, name="mine").payload, name="mine"
        )
        self.their_grant = Grant.from_bytes(
            read_envelope(theirs.grant, name="theirs").payload, name="theirs"
        )


def rebuilt(bundle: Bundle2, **members: bytes | None) -> Bundle2:
    """The file with members exchanged or left out, everything else consistent."""
    return bundle2_of(rebuilt_bytes(bundle, **members), name="forged.mlgb")


def rebuilt_bytes(bundle: Bundle2, **members: bytes | None) -> bytes:
    """As `rebuilt`, as bytes."""
    contents = {name: bundle.read(name) for name in bundle.members}
    for name, content in members.items():
        member = {"grant": GRANT, "signature": SIGNATURE, "manifest": MANIFEST}[name]
        if content is None:
            contents.pop(member, None)
        else:
            contents[member] = content
    placed = place((n, len(c), zlib.crc32(c)) for n, c in contents.items())
    out = bytearray(placed[-1].ends_at)
    for member in placed:
        header = member.header()
        out[member.header_at : member.header_at + len(header)] = header
        out[member.starts_at : member.ends_at] = contents[member.name]
    return bytes(out) + directory(placed)


def readdressed(loot: Loot, to: Person, **changes: object) -> Grant:
    """His own grant, changed and wrapped anew: he holds what it wraps."""
    draft = loot.grant.model_copy(
        update={"recipient": to.recipient, "wrapped": "", **changes}
    )
    wrapped = to.wrap(loot.secrets.to_bytes(), draft.info)
    return draft.model_copy(update={"wrapped": wrapped.hex()})


OPENING: dict[str, Callable[[Loot], object]] = {
    "his identity on their file": lambda x: open_issued(x.theirs, HOSPITAL, JUNE),
    "his grant on their file": lambda x: open_issued(
        x.theirs, HOSPITAL, Conditions(today=TODAY, grant=x.mine.grant)
    ),
    "his secrets on their file": lambda x: x.theirs.unlock(x.secrets),
    "his secrets under their grant's id": lambda x: x.theirs.unlock(
        dataclasses.replace(x.secrets, subkeys={})
    ),
    "his content key as a model key": lambda x: x.theirs.unlock(
        ModelKey(x.secrets.content_key)
    ),
    "a subkey as a content key": lambda x: x.theirs.unlock(
        dataclasses.replace(
            x.secrets, content_key=next(iter(x.secrets.subkeys.values()))
        )
    ),
    "his secrets on the owner's own file": lambda x: owners().unlock(x.secrets),
    "his content key as the owner's key": lambda x: Session(
        owners(), ModelKey(x.secrets.content_key)
    ),
    "their grant with his recipient": lambda x: x.their_grant.model_copy(
        update={"recipient": HOSPITAL.recipient}
    ).unwrap(HOSPITAL, name="it"),
    "what their grant wraps, as his": lambda x: x.grant.model_copy(
        update={"wrapped": x.their_grant.wrapped}
    ).unwrap(HOSPITAL, name="it"),
    "their content key out of their grant's id": lambda x: x.secrets.derive(
        f"issue/content-key/{x.their_grant.grant_id}"
    ),
    "another transform of the same model": lambda x: x.secrets.derive("np/m=4/c=3"),
    "the owner's bundle by the recorded subkeys": lambda x: owners().unlock(
        Secrets(x.secrets.protection_id, x.secrets.key_id, bytes(32), {})
    ),
}


@pytest.mark.parametrize("attempt", OPENING, ids=str)
def test_their_file_stays_closed(loot: Loot, attempt: str) -> None:
    with pytest.raises((MlguardError, ValueError)):
        OPENING[attempt](loot)


FORGING: dict[str, Callable[[Loot], bytes]] = {
    "a grant for a third, signed by himself": lambda x: sign_grant(
        readdressed(x, THIRD), STRANGER
    ),
    "a grant that names himself as signer": lambda x: sign_grant(
        readdressed(x, THIRD, signer=STRANGER.public.pem.decode()), STRANGER
    ),
    "the owner's envelope around another grant": lambda x: swapped_payload(
        x.mine.grant, readdressed(x, THIRD).to_bytes()
    ),
    "his grant without its last day": lambda x: sign_grant(
        readdressed(x, HOSPITAL, not_after=None), STRANGER
    ),
    "his grant with a later day in the owner's envelope": lambda x: swapped_payload(
        x.mine.grant, readdressed(x, HOSPITAL, not_after="2099-12-31").to_bytes()
    ),
    "the ledger's line as a grant": lambda x: ledger_line(x),
    "the signature of the file as a grant": lambda x: x.mine.signature or b"",
}


def swapped_payload(envelope: bytes, payload: bytes) -> bytes:
    value = json.loads(envelope)
    value["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    return json.dumps(value).encode()


def ledger_line(loot: Loot) -> bytes:
    return read_ledger(b"", OWNER.public, name="ledger").next_line(
        "issued",
        loot.grant,
        OWNER,
        time="2026-01-01T00:00:00Z",
        key_name="acme",
        file_sha256="00" * 32,
    )


@pytest.mark.parametrize("attempt", FORGING, ids=str)
def test_no_forged_grant_opens_where_the_owner_is_pinned(
    loot: Loot, attempt: str
) -> None:
    for person in (THIRD, HOSPITAL):
        for bundle in (loot.mine, rebuilt(loot.mine, grant=FORGING[attempt](loot))):
            given = dataclasses.replace(PINNED, grant=FORGING[attempt](loot))
            with pytest.raises(MlguardError):
                open_issued(bundle, person, given)


def test_what_pinning_is_for(loot: Loot) -> None:
    """Where nobody is pinned, a holder's own signature passes: the page says so."""
    forged = sign_grant(
        readdressed(loot, THIRD, signer=STRANGER.public.pem.decode()), STRANGER
    )
    opened = open_issued(loot.mine, THIRD, dataclasses.replace(JUNE, grant=forged))
    assert opened.content_key == loot.secrets.content_key


def test_the_last_day_is_over_on_every_way_in(loot: Loot) -> None:
    late = Conditions(today=date(2027, 1, 1))
    for conditions in (late, dataclasses.replace(late, grant=loot.mine.grant)):
        with pytest.raises(Expired):
            open_issued(loot.mine, HOSPITAL, conditions)


def test_he_cannot_renew_himself(loot: Loot) -> None:
    later = Terms("Hospital A", not_after=date(2099, 1, 1))
    for key in (ModelKey(loot.secrets.content_key), ModelKey(bytes(32))):
        with pytest.raises(MlguardError):
            renew(loot.mine, key, OWNER, HOSPITAL, later)
    with pytest.raises(SignatureNotTrusted):
        renew(loot.mine, KEY, STRANGER, HOSPITAL, later)


def test_a_removed_signature_is_seen_where_a_signer_is_pinned(loot: Loot) -> None:
    bare = rebuilt(loot.mine, signature=None)
    with pytest.raises(SignatureNotTrusted, match="is not signed"):
        open_issued(bare, HOSPITAL, PINNED)
    with pytest.raises(SignatureNotTrusted):
        verify_bundle(bare, [OWNER.public])


def test_weights_changed_with_his_own_key_are_seen(loot: Loot, tmp_path: Path) -> None:
    """He holds the content key, so that tags do not stop him; the signature does."""
    model = model_of(loot.mine.unlock(loot.secrets))
    changed = [
        dataclasses.replace(one, data=bytes(one.size_bytes)) for one in model.tensors
    ]
    facts = loot.mine.manifest
    owner = FileOwner(
        facts.key_id,
        bytes.fromhex(facts.protection_id),
        loot.secrets,
        loot.secrets.content_key,
    )
    grant, signature = loot.mine.grant, loot.mine.signature
    beside = WriteBeside(lambda _: {GRANT: grant, SIGNATURE: signature})
    path = tmp_path / "forged.mlgb"
    write_bundle2(
        path, dataclasses.replace(model, tensors=changed), owner, beside=beside
    )
    forged = glimpse_bundle(path)
    for conditions in (JUNE, PINNED):
        with pytest.raises((WrongKey, TamperedBundle)):
            open_issued(forged, HOSPITAL, conditions)


def test_a_manifest_of_his_own_does_not_go_with_the_grant(loot: Loot) -> None:
    text = loot.mine.read(MANIFEST)
    forged = rebuilt(
        loot.mine, manifest=text.replace(b'"licence":"', b'"licence":"Free. ', 1)
    )
    with pytest.raises(MlguardError):
        open_issued(forged, HOSPITAL, JUNE)


def test_a_revoked_customer_cannot_hide_behind_an_older_list(
    loot: Loot, tmp_path: Path
) -> None:
    first = Revocations.first().with_grant("00" * 16)
    newer = first.with_grant(loot.grant.grant_id)
    seen = SeenLists(tmp_path / "seen")
    given = dataclasses.replace(JUNE, seen=seen)
    for known in (newer, first):
        signed = sign_revocations(known, OWNER)
        told = dataclasses.replace(given, revocations=signed)
        with pytest.raises(Revoked):
            open_issued(loot.mine, HOSPITAL, told)


def test_marks_are_not_read_off_two_copies(tmp_path: Path) -> None:
    """Neither file says which weights differ from the owner's, or by how much."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = issued(tmp_path / "a"), issued(tmp_path / "b")
    assert one.grant.grant_id != other.grant.grant_id
    for file in (one, other):
        shown = reading(file.path).read(MANIFEST)
        assert b"mark" not in shown
        assert file.grant.grant_id.encode() not in shown


def test_nothing_of_the_owners_is_in_the_file(loot: Loot) -> None:
    whole = b"".join(loot.mine.read(name) for name in loot.mine.members)
    for secret in (KEY.reveal(), OWNER.reveal(), loot.secrets.content_key):
        assert secret not in whole
        assert secret.hex().encode() not in whole


def test_terms_he_did_not_get_are_not_his(loot: Loot) -> None:
    assert loot.grant.terms == TERMS.text
    edited = loot.grant.model_copy(update={"terms": "Resale allowed."})
    with pytest.raises(MlguardError):
        edited.unwrap(HOSPITAL, name="it")
