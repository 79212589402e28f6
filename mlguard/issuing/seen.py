"""Remember the newest revocation list of each owner that this machine saw."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlguard.errors import OutputError
from mlguard.files import atomic_write, read_bounded
from mlguard.signing import PublicSigner

MAX_BYTES = 32  # a number
FOLDER = "revocations"


@dataclass(frozen=True)
class SeenLists:
    """A folder of this user's, with one small file for each owner.

    A folder that cannot be read or written remembers nothing, and refuses nothing: a
    list is then compared only with the number in the grant.

    Attributes:
        folder: Where the files are.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> "SeenLists | None":
        """Return the folder of this user; None without a home directory."""
        state = os.environ.get("XDG_STATE_HOME")
        if state:
            return cls(Path(state) / "mlguard" / FOLDER)
        with suppress(RuntimeError):  # nobody's home directory is known
            return cls(Path.home() / ".local" / "state" / "mlguard" / FOLDER)
        return None

    def newest(self, signer: PublicSigner) -> int:
        """Return the highest number seen; 0 if none is known."""
        with suppress(OSError, ValueError):
            return max(0, int(read_bounded(self._file(signer), MAX_BYTES)))
        return 0

    def remember(self, signer: PublicSigner, sequence: int) -> None:
        """Store a number, if it is higher."""
        if sequence <= self.newest(signer):
            return
        with suppress(OSError, OutputError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic_write(self._file(signer), b"%d\n" % sequence, mode=0o600)

    def _file(self, signer: PublicSigner) -> Path:
        return self.folder / signer.signer_id
