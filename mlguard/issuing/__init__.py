"""Step 7: a file of its own for each customer, and whether he may open it.

The owner opens his bundle, marks its weights for one customer, seals them anew and
wraps what the file needs to open for that customer alone. Torch is not needed, nor a
keystore: keys, recipients and identities are handed in. docs/spec/grants-v1.md.
"""

from mlguard.issuing.issue import Issued, MarkCost, issue, renew
from mlguard.issuing.opening import Conditions, open_issued
from mlguard.issuing.seen import SeenLists
from mlguard.issuing.signature import verify_bundle

__all__ = [
    "Conditions",
    "Issued",
    "MarkCost",
    "SeenLists",
    "issue",
    "open_issued",
    "renew",
    "verify_bundle",
]
