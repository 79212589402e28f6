"""Find what opens a bundle given to a command: the owner's key, or an identity."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlguard.bundle import Bundle2, FileSecrets, Glimpse
from mlguard.cli.model_key import read_model_key
from mlguard.cli.panels import ADVANCED, CUSTOMER
from mlguard.cli.parties import Holder
from mlguard.cli.printable import warn
from mlguard.cli.trust import trusted_signers
from mlguard.cli.unlock import Unlock
from mlguard.errors import BundleError, OptionError, TamperedBundle
from mlguard.files import read_bounded
from mlguard.grants import Unwraps
from mlguard.issuing import REVOCATIONS_VARIABLE, Conditions, SeenLists, open_issued
from mlguard.keys import ModelKey

MAX_FILE_BYTES = 1 << 20  # limit of a grant, and of a list

KeyOption = Annotated[
    str | None,
    typer.Option(
        help="Name of the model key in the keystore; for your own bundles. One that "
        "was issued to you opens with --identity.",
        show_default=False,
    ),
]
GrantFile = Annotated[
    Path | None,
    typer.Option(
        "--grant",
        help="A newer grant than the one in the file; for issued bundles.",
        show_default=False,
        rich_help_panel=CUSTOMER,
    ),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        "--revocations",
        help="The owner's revocation list; for issued bundles. Default: the file that "
        f"{REVOCATIONS_VARIABLE} names.",
        show_default=False,
        rich_help_panel=CUSTOMER,
    ),
]


ManifestDigest = Annotated[
    str | None,
    typer.Option(
        "--manifest-sha256",
        help="Accept only this export, named by the SHA-256 of its manifest from "
        "`mlguard inspect`. Older exports of a model open as well as the newest.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]


def refuse_other_export(bundle: Glimpse | Bundle2, digest: str | None) -> None:
    """Refuse a bundle that is not exactly the export demanded.

    Raises:
        TamperedBundle: It is another export.
    """
    if digest is not None and digest.strip().lower() != bundle.digest:
        raise TamperedBundle(
            f"{bundle.name} is not the export demanded: its manifest has the SHA-256 "
            f"{bundle.digest}",
            hint="use the file that was demanded, or demand another",
        )


def key_for(
    bundle: Glimpse | Bundle2,
    key: str | None,
    unlock: Unlock,
    *,
    grant: Path | None = None,
    revocations: Path | None = None,
    signers: list[Path] | None = None,
) -> ModelKey | FileSecrets:
    """Get the key or the secrets that open a bundle.

    Args:
        bundle: The bundle, its manifest read.
        key: Name of the model key, for the owner's own bundle.
        unlock: How to open the keystore; for an issued bundle, the identity in it.
        grant: A newer grant.
        revocations: A list of revoked grants; None for that of the environment.
        signers: Public keys to trust, instead of those kept on this machine.

    Raises:
        BundleError: The bundle is the owner's, and no key was named; or it was issued,
            and there is no identity.
        OptionError: A file that was named cannot be read.
        KeystoreError: The keystore or the identity does not open.
        SignatureNotTrusted: An issued bundle is not signed by a trusted signer.
        OutsideValidity: Its grant is not valid today, or was revoked.
        WrongKey: It was made for another key or identity.
    """
    if isinstance(bundle, Bundle2) and bundle.manifest.issued:
        trusted = trusted_signers(signers)
        if not trusted:
            warn(
                f"{bundle.name}: no signer is trusted here, so nobody vouches for who "
                "issued it; `mlguard signer trust` takes the owner's public key"
            )
        conditions = Conditions(
            signers=trusted,
            grant=_content(grant, "grant"),
            revocations=_content(revocations or _list_here(), "list of revoked grants"),
            seen=SeenLists.of_user(),
        )
        return open_issued(bundle, holder_of(bundle.name, unlock), conditions)
    if grant is not None or revocations is not None or signers:
        raise BundleError(
            f"{bundle.name} was not issued: its owner's key proves it",
            hint="leave --grant, --revocations and --signer out, or name the issued "
            "file",
        )
    if key is None:
        raise BundleError(
            f"{bundle.name} opens with its owner's model key, but none was named",
            hint="give --key NAME; `mlguard issue` makes a file for an identity",
        )
    return read_model_key(key, unlock, key_id=bundle.manifest.key_id)


def holder_of(name: str, unlock: Unlock) -> Holder:
    """Return the identity given to a command.

    Raises:
        BundleError: There is none.
        IdentityError: Its file is missing, unsafe or damaged.
    """
    if unlock.identity_path is None and unlock.token_uri is None:
        raise BundleError(
            f"{name} was issued to a customer and opens with his identity",
            hint="give --identity FILE, or --token URI of a key pair on a token",
        )
    opener = unlock.opener(name)
    if not isinstance(opener, Unwraps):
        raise BundleError(
            f"{name} opens with an identity, but the given credential is not one",
            hint="give --identity FILE",
        )
    return Holder(opener)


def _list_here() -> Path | None:
    """Return the revocation list that this machine was given for all issued bundles."""
    named = os.environ.get(REVOCATIONS_VARIABLE)
    return Path(named) if named else None


def _content(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except OSError as error:
        raise OptionError(f"the {what}", [f"{path}: {error.strerror}"]) from None
