"""Files that never end or never begin, as a stranger can put them into a folder."""

import os
from pathlib import Path

ENDLESS = ("pipe", "device")


def endless(path: Path, kind: str) -> Path:
    """Put a pipe that nobody writes to, or a link to a device, in place of a file."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path
