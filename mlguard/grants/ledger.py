"""The owner's ledger: what was issued to whom, each entry signed and chained.

docs/spec/grants-v1.md, section 4. It proves, to those who trust the owner's signing
key, that the owner wrote these entries in this order. It does not prove when: the time
in an entry is the owner's own claim.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mlguard.canonical import Hex16, Hex32, Hex64
from mlguard.errors import SignatureNotTrusted
from mlguard.grants.grant import Grant
from mlguard.grants.texts import (
    Key,
    Line,
    Moment,
    Number,
    Text,
    open_text,
    sign_text,
)
from mlguard.signing import PublicSigner, Signer

PAYLOAD_TYPE = "application/vnd.mlguard.ledger-entry+json"
START = "0" * 64  # the first entry's `previous`
MAX_LEDGER_BYTES = 256 << 20
Kind = Literal["issued", "renewed", "revoked"]


class LedgerEntry(Text):
    """One line of the ledger.

    Attributes:
        number: From 0 on, without a gap.
        previous: SHA-256 of the line before.
        kind: What happened.
        file_sha256: The file that was handed out: a bundle, a grant, or a list.
        marked: Whether the file's weights carry the customer's mark.
    """

    format: Literal["mlguard.ledger-entry/1"] = "mlguard.ledger-entry/1"
    number: Number
    previous: Hex64
    kind: Kind
    time: Moment
    key_id: Hex16
    key_name: Line
    protection_id: Hex32
    grant_id: Hex32
    bundle_sha256: Hex64
    licensee: Line
    recipient: Key
    not_before: str | None = None
    not_after: str | None = None
    file_sha256: Hex64
    marked: bool = False


@dataclass(frozen=True)
class Ledger:
    """The entries of one owner, in order.

    Attributes:
        entries: What each line says.
        head: SHA-256 of the last line, in hex.
    """

    entries: tuple[LedgerEntry, ...] = ()
    head: str = START

    def next_line(
        self,
        kind: Kind,
        grant: Grant,
        signer: Signer,
        *,
        time: str,
        key_name: str,
        file_sha256: str,
        marked: bool = False,
    ) -> bytes:
        """Sign the next entry, and return it as a line of the file."""
        entry = LedgerEntry(
            number=len(self.entries),
            previous=self.head,
            kind=kind,
            time=time,
            key_id=grant.key_id,
            key_name=key_name,
            protection_id=grant.protection_id,
            grant_id=grant.grant_id,
            bundle_sha256=grant.bundle_sha256,
            licensee=grant.licensee,
            recipient=grant.recipient,
            not_before=grant.not_before,
            not_after=grant.not_after,
            file_sha256=file_sha256,
            marked=marked,
        )
        return sign_text(entry, PAYLOAD_TYPE, signer) + b"\n"

    def of(self, grant_id: str) -> tuple[LedgerEntry, ...]:
        """Return the entries of one grant."""
        return tuple(one for one in self.entries if one.grant_id == grant_id)


def read_ledger(data: bytes, signer: PublicSigner, *, name: str) -> Ledger:
    """Read a ledger, refusing a line that is missing, moved, edited or foreign.

    A ledger without its last lines is still valid: keep its head somewhere else to
    notice the loss.

    Raises:
        SignatureNotTrusted: The owner did not write these lines in this order.
    """
    entries: list[LedgerEntry] = []
    head = START
    for line in _lines(data, name=name):
        where = f"{name}, line {len(entries) + 1}"
        entry = open_text(line, LedgerEntry, PAYLOAD_TYPE, [signer], name=where)
        if (entry.number, entry.previous) != (len(entries), head):
            raise SignatureNotTrusted(
                f"{where} is entry {entry.number} of the ledger, which does not "
                "follow the line before it: a line is missing or was moved",
                hint="restore the ledger from a backup",
            )
        entries.append(entry)
        head = hashlib.sha256(line).hexdigest()
    return Ledger(tuple(entries), head)


def _lines(data: bytes, *, name: str) -> Iterator[bytes]:
    if data and not data.endswith(b"\n"):
        raise SignatureNotTrusted(f"{name} ends within a line")
    yield from data.split(b"\n")[:-1]
