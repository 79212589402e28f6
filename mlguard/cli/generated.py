"""Make a passphrase for whoever leaves the question for a new one empty.

It is shown once, on the terminal only, and has to be typed back, so that nobody locks a
keystore with something that he has not kept.
"""

import secrets
import sys

from mlguard.cli.printable import refuse

# Base32 (RFC 4648) in lower case: it has no 0 and no 1.
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
GROUPS, GROUP = 6, 4
BITS = GROUPS * GROUP * 5  # 120; age's ten words have 110


def passphrase() -> str:
    """Draw a passphrase of `BITS` bits: groups of letters and digits with hyphens."""
    groups = ("".join(map(_letter, range(GROUP))) for _ in range(GROUPS))
    return "-".join(groups)


def can_show() -> bool:
    """Whether a passphrase would reach a person's eyes only, and no pipe or log."""
    return sys.stderr is not None and sys.stderr.isatty()


def show(text: str) -> None:
    """Show a new passphrase on the terminal."""
    refuse(f"mlguard: a passphrase of {BITS} bits; keep it now, it is not shown again:")
    refuse(f"    {text}")


def _letter(_: int) -> str:
    return secrets.choice(ALPHABET)
