"""Let one customer open one file: grants, revocation lists, and the owner's ledger.

A grant carries the keys of one file, wrapped for one recipient, and names the licensee
and the dates. The owner signs it. The room knows no bundle and no keystore: it is
handed keys, recipients and identities. docs/spec/grants-v1.md.
"""

from mlguard.grants.grant import (
    Grant,
    Terms,
    new_grant_id,
    read_grant,
    sign_grant,
)
from mlguard.grants.ledger import Ledger, LedgerEntry, read_ledger
from mlguard.grants.revocations import (
    Revocations,
    read_revocations,
    sign_revocations,
)
from mlguard.grants.secrets import Recipient, Secrets, Unwraps

__all__ = [
    "Grant",
    "Ledger",
    "LedgerEntry",
    "Recipient",
    "Revocations",
    "Secrets",
    "Terms",
    "Unwraps",
    "new_grant_id",
    "read_grant",
    "read_ledger",
    "read_revocations",
    "sign_grant",
    "sign_revocations",
]
