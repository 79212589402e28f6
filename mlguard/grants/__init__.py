"""Let one customer open one file: grants, lists of revoked ones, the owner's ledger.

A grant carries what a file needs to open, wrapped so that one recipient can unwrap it,
and says for whom, from when and until when. The owner signs it. Knows no bundle and no
keystore: it is handed keys and whoever can wrap and unwrap. docs/spec/grants-v1.md.
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
