"""The signers that a user trusts: public signing keys in a folder of his.

If there is any, an issued file must be signed by one of them, unless the command names
a signer itself.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.panels import CUSTOMER
from mlguard.cli.parties import read_public_signer
from mlguard.errors import SignatureNotTrusted
from mlguard.files import is_dropping, write_new
from mlguard.signing import PublicSigner

SUFFIX = ".pub"
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        "--signer",
        help="Public key of an accepted signer; can be repeated. Default: those of "
        "`mlguard signer trust`.",
        show_default=False,
        rich_help_panel=CUSTOMER,
    ),
]


def folder() -> Path:
    """Return the folder of trusted keys."""
    return Path(typer.get_app_dir("mlguard")) / "signers"


def trusted_signers(named: list[Path] | None) -> list[PublicSigner]:
    """Return the signers that a command names, otherwise those trusted on this machine.

    Raises:
        SignatureNotTrusted: A file does not hold a public key.
    """
    return [read_public_signer(path) for path in named or kept()]


def kept() -> list[Path]:
    """Return the files of trusted keys.

    Raises:
        SignatureNotTrusted: They cannot be listed, so the trusted signers are unknown.
    """
    try:
        names = sorted(os.listdir(folder()))
    except FileNotFoundError:
        if not os.path.lexists(folder()):
            return []
        names = ["a link to a missing file"]
    except (OSError, RuntimeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise SignatureNotTrusted(
            f"cannot read {folder()}: {why}", hint="name the signer with --signer"
        ) from None
    # Every file there is read as a key: one that is not must not go unnoticed.
    return [folder() / name for name in names if not is_dropping(name)]


def keep(signer: PublicSigner) -> Path:
    """Trust a signer from now on."""
    path = folder() / f"{signer.signer_id}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_new(path, signer.pem)
    return path
