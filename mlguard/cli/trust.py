"""Whom the user of this machine trusts: public signing keys in a folder of his.

Once there is one, an issued file that none of them signed is refused, unless the
command names a signer itself.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.parties import read_public_signer
from mlguard.errors import SignatureNotTrusted
from mlguard.files import is_dropping, write_new
from mlguard.signing import PublicSigner

SUFFIX = ".pub"
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        "--signer",
        help="Public key that must have signed the file; can be repeated. "
        "Default: those of `mlguard signer trust`.",
        show_default=False,
    ),
]


def folder() -> Path:
    """Where trusted keys are kept."""
    return Path(typer.get_app_dir("mlguard")) / "signers"


def trusted_signers(named: list[Path] | None) -> list[PublicSigner]:
    """The signers that a command names, or else those trusted on this machine.

    Raises:
        SignatureNotTrusted: A file holds no public key.
    """
    return [read_public_signer(path) for path in named or kept()]


def kept() -> list[Path]:
    """The files of trusted keys.

    Raises:
        SignatureNotTrusted: They cannot be listed: who is trusted is then not known.
    """
    try:
        names = sorted(os.listdir(folder()))
    except FileNotFoundError:
        if not os.path.lexists(folder()):
            return []
        names = ["a link to nowhere"]
    except (OSError, RuntimeError) as error:
        raise SignatureNotTrusted(
            f"cannot read {folder()}: {error}", hint="name the signer with --signer"
        ) from None
    # Whatever lies there is read as a key: what is none must not pass unseen.
    return [folder() / name for name in names if not is_dropping(name)]


def keep(signer: PublicSigner) -> Path:
    """Trust a signer from now on."""
    path = folder() / f"{signer.signer_id}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_new(path, signer.pem)
    return path
