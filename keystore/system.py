"""What differs between operating systems: flags, folders, and who we are."""

import contextlib
import os
from pathlib import Path

from keystore.errors import KeystoreNotFound

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)
BINARY = getattr(os, "O_BINARY", 0)  # Windows would convert line ends


POSIX = NOFOLLOW != 0 and hasattr(os, "geteuid")


def user_id() -> int | None:
    """Return the effective user id; None where there is none, as on Windows."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def home_folders() -> tuple[Path, ...]:
    """Return the home folders of this user, from the environment and from the system.

    The two differ where somebody set HOME. The tuple is empty without a home.
    """
    found = []
    with contextlib.suppress(RuntimeError):
        found.append(Path.home())
    try:
        import pwd

        found.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    except (ImportError, KeyError):
        pass
    return tuple(dict.fromkeys(found))


def expanded(path: Path) -> Path:
    """Return the path with ~ expanded.

    Raises:
        KeystoreNotFound: It names a home folder that does not exist.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise KeystoreNotFound(
            f"{path} names a home folder that does not exist",
            hint="name the keystore by a path, with --keystore or MLGUARD_KEYSTORE",
        ) from None
