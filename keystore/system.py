"""What an operating system has, or has not: flags of `os.open`, and who we are."""

import os

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)
BINARY = getattr(os, "O_BINARY", 0)  # Windows would convert line ends
POSIX = os.name == "posix"


def user_id() -> int | None:
    """The effective user id; None where there is none, as on Windows."""
    return os.geteuid() if hasattr(os, "geteuid") else None
