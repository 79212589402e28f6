"""The one spelling of what is authenticated: canonical JSON, and the ids in it.

Two texts of one content would be two files that one MAC or signature vouches for. Knows
no format; what a text says is its room's business.
"""

import json
from typing import Annotated

from pydantic import Field

Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}\z")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\z")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


def canonical(value: object) -> bytes:
    """Write a value as JSON in its one spelling: sorted names, no spaces, UTF-8.

    Raises:
        ValueError: It holds a number that JSON has no word for.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode()
