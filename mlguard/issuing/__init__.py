"""Step 7: issue a file of his own to each customer, and open it for him.

The owner opens his bundle, marks its weights for one customer, seals them anew and
wraps the file's keys for that customer alone. Neither torch nor a keystore is needed:
keys, recipients and identities are handed in. docs/spec/grants-v1.md.
"""

from mlguard.issuing.issue import Issued, MarkCost, issue, renew
from mlguard.issuing.opening import REVOCATIONS_VARIABLE, Conditions, open_issued
from mlguard.issuing.seen import SeenLists
from mlguard.issuing.signature import verify_bundle

__all__ = [
    "REVOCATIONS_VARIABLE",
    "Conditions",
    "Issued",
    "MarkCost",
    "SeenLists",
    "issue",
    "open_issued",
    "renew",
    "verify_bundle",
]
