"""Canonical JSON, the one spelling of authenticated values, and the ids in it.

If one content had two texts, one MAC or signature would cover two files. The module
knows no format; the rooms define what a text says.
"""

import json
from typing import Annotated

from pydantic import Field

Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}\z")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\z")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


def canonical(value: object) -> bytes:
    """Return a value as JSON in its one spelling: sorted names, no spaces, UTF-8.

    Raises:
        ValueError: It holds a number that JSON cannot express.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode()
