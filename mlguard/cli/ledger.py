"""Read the owner's ledger, a file beside his keystore, and add lines to it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from keystore import Keystore
from mlguard.cli.panels import ADVANCED
from mlguard.cli.unlock import Unlock
from mlguard.errors import BundleError, OptionError, OutputError
from mlguard.files import read_bounded
from mlguard.grants import Grant, Ledger, read_ledger
from mlguard.grants.ledger import MAX_LEDGER_BYTES, Kind
from mlguard.grants.texts import moment
from mlguard.signing import Signer

SUFFIX = ".issued"
USE = "issued"  # the kind of use noted for a key, once for each grant
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        help="The ledger; default: a file beside the keystore.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]


@dataclass(frozen=True)
class LedgerOf:
    """The ledger of one keystore.

    Attributes:
        path: The file; it may not exist yet.
        signer: The key that signs its lines.
    """

    path: Path
    signer: Signer

    @classmethod
    def at(cls, given: Path | None, unlock: Unlock, signer: Signer) -> "LedgerOf":
        """Return the ledger that a command names, or the one beside the keystore.

        Raises:
            OptionError: The keystore is a database, and no ledger is named.
        """
        if given is None and "://" in unlock.keystore:
            raise OptionError(
                "the ledger",
                ["a keystore in a database has no file beside it: give --ledger FILE"],
            )
        place = given or Path(unlock.storage.location + SUFFIX)
        return cls(place, signer)

    def read(self) -> Ledger:
        """Return all entries.

        Raises:
            SignatureNotTrusted: A line is missing, moved, edited or foreign.
            OutputError: It cannot be read.
        """
        try:
            data = read_bounded(self.path, MAX_LEDGER_BYTES)
        except FileNotFoundError:
            return Ledger()
        except OSError as error:
            raise OutputError(
                f"cannot read the ledger {self.path}: {error.strerror}",
                hint="every issued file must be recorded: make it readable",
            ) from None
        return read_ledger(data, self.signer.public, name=str(self.path))

    def add(
        self,
        kind: Kind,
        grant: Grant,
        *,
        key_name: str,
        file_sha256: str,
        marked: bool = False,
    ) -> None:
        """Sign a line and add it.

        Raises:
            SignatureNotTrusted: The ledger is not this signer's, or was changed.
            OutputError: It cannot be written.
        """
        line = self.read().next_line(
            kind,
            grant,
            self.signer,
            time=moment(),
            key_name=key_name,
            file_sha256=file_sha256,
            marked=marked,
        )
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            with os.fdopen(os.open(self.path, flags, 0o600), "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write the ledger {self.path}: {error.strerror}"
            ) from None

    def refuse_missing(self, missing: list[str]) -> NoReturn:
        """Refuse a ledger that lacks grants."""
        raise BundleError(
            f"the ledger {self.path} lacks {len(missing)} grants that the keystore "
            f"knows, the first {missing[0]}",
            hint="lines are missing: restore it from a backup",
        )


def missing_in(ledger: Ledger, store: Keystore, key_name: str) -> list[str]:
    """Return the grants that the keystore knows and the ledger lacks."""
    known = {entry.grant_id for entry in ledger.entries}
    uses = store.info(key_name).uses
    return sorted(
        use.reference for use in uses if use.kind == USE and use.reference not in known
    )
