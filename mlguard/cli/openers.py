"""What opens a keystore, read from where it is named or asked for on the terminal."""

import sys
from pathlib import Path

from keystore import Identity, Passphrase, TokenUri
from mlguard.cli.ask import Source, ask
from mlguard.cli.printable import warn
from mlguard.cli.process import hide_memory
from mlguard.cli.unlock_options import PIN_VARIABLE

FROM_TERMINAL = Path("-")
SHORT_PASSPHRASE = 12  # characters


def pin_of(uri: TokenUri, file: Path | None, descriptor: int | None) -> str:
    """Read a token's PIN, or ask for it.

    Raises:
        PassphraseMissing: No source, and no terminal to ask on.
    """
    source = Source(
        what="PIN",
        descriptor=descriptor,
        file=file,
        variable=PIN_VARIABLE,
        hint=f"give --pin-file FILE or --pin-fd N, or set {PIN_VARIABLE}",
    )
    return source.read(f"PIN for {uri}")


def read_identity(path: Path, location: str) -> Identity:
    """Read an identity file; `-` is the terminal, or what is piped in.

    Raises:
        IdentityError: It is missing, unsafe or damaged.
        PassphraseMissing: There is nothing to read from.
    """
    hide_memory()
    if path != FROM_TERMINAL:
        return Identity.read(path, say=warn)
    if sys.stdin is None or sys.stdin.isatty():
        return Identity.parse(ask(f"Identity for {location}: "))
    return Identity.read(Path("/dev/stdin"), say=warn)


def new_passphrase(location: str, file: Path | None) -> Passphrase:
    """Read a passphrase that replaces or joins another one. Raises as `opener`."""
    source = Source(what="passphrase", file=file)
    return chosen(source.read(f"New passphrase for {location}", confirm=True))


def chosen(text: str) -> Passphrase:
    """A passphrase that somebody just chose; of a short one he is warned."""
    if len(text) < SHORT_PASSPHRASE:
        warn(
            f"the passphrase is short: whoever copies the keystore can try all of "
            f"{len(text)} character{'s' * (len(text) != 1)}; take five random words, "
            "or leave the question empty and have one made"
        )
    return Passphrase(text)
