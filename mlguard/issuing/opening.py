"""The customer's side: open an issued file, if this identity may open it today.

The checks, in this order: the file was issued; its grant is signed; the signer is
trusted; the grant is for this file and this identity; the day is within its dates; the
grant is not revoked. Dates and lists are checked here and nowhere else: a licensee can
write a loader that checks neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from mlguard.bundle import Bundle2
from mlguard.errors import BundleError, SignatureNotTrusted, TamperedBundle, WrongKey
from mlguard.grants import (
    Grant,
    Revocations,
    Secrets,
    Unwraps,
    read_grant,
    read_revocations,
)
from mlguard.grants.grant import claimed_signer
from mlguard.issuing.seen import SeenLists
from mlguard.issuing.signature import verify_bundle
from mlguard.signing import PublicSigner, read_signer

REVOCATIONS_VARIABLE = "MLGUARD_REVOCATIONS_FILE"  # names a list for all issued files


@dataclass(frozen=True)
class Conditions:
    """The conditions under which an issued file is opened.

    Attributes:
        signers: The signers whom the customer trusts. If there are any, one of them
            must have signed the whole file; if there are none, the grant's own signer
            is accepted.
        grant: A newer grant than the one in the file; None to use that one.
        revocations: The owner's list of revoked grants; None to check none.
        seen: Remembers the newest list seen; None to remember nothing.
        today: The day in UTC; None for this machine's.
    """

    signers: Sequence[PublicSigner] = ()
    grant: bytes | None = None
    revocations: bytes | None = None
    seen: SeenLists | None = None
    today: date | None = None


def open_issued(
    bundle: Bundle2, identity: Unwraps, conditions: Conditions | None = None
) -> Secrets:
    """Return the secrets of an issued file, if this identity may open it today.

    Raises:
        BundleError: The file was not issued to anybody.
        SignatureNotTrusted: It or its grant is not signed by a trusted signer.
        TamperedBundle: It was changed after it was signed.
        WrongKey: It was issued to another identity.
        NotYetValid: The grant's first day has not come.
        Expired: Its last day is over.
        Revoked: The owner has revoked it, or the list is outdated.
    """
    given = conditions or Conditions()
    grant = grant_of(bundle, given.signers, given.grant)
    signer = signer_of(grant)
    if given.signers:
        verify_bundle(bundle, given.signers)
    grant.check_day(given.today or datetime.now(UTC).date(), name=bundle.name)
    if given.revocations is not None:
        _check_revoked(grant, signer, given.revocations, given.seen)
    secrets = grant.unwrap(identity, name=bundle.name)
    try:
        bundle.unlock(secrets)
    except WrongKey as refusal:
        raise TamperedBundle(str(refusal)) from None
    return secrets


def grant_of(
    bundle: Bundle2,
    signers: Sequence[PublicSigner] = (),
    newer: bytes | None = None,
) -> Grant:
    """Return the grant of a file: its own, or a newer one.

    Args:
        bundle: The issued file.
        signers: The accepted signers; if there are none, the one whom it names.
        newer: A grant that was sent separately.

    Raises:
        BundleError: The file was not issued to anybody.
        SignatureNotTrusted: The grant is not signed by a trusted signer.
        WrongKey: The grant is for another file.
    """
    data = newer if newer is not None else bundle.grant
    if not bundle.manifest.issued or data is None:
        raise BundleError(
            f"{bundle.name} was not issued to a customer: it is the owner's own file",
            hint="open it with the model key, or ask the owner to make you a file of "
            "your own with `mlguard issue`",
        )
    name = f"the grant of {bundle.name}"
    trusted = signers or [claimed_signer(data, name=name)]
    grant = read_grant(data, trusted, name=name)
    if signer_of(grant) not in trusted:
        raise SignatureNotTrusted(f"{name} was not signed by the key that it names")
    facts = bundle.manifest
    if (grant.bundle_sha256, grant.protection_id, grant.key_id) != (
        bundle.digest,
        facts.protection_id,
        facts.key_id,
    ):
        raise WrongKey(
            f"{name} is for another file",
            hint="a grant opens only the file that it was issued with",
        )
    return grant


def signer_of(grant: Grant) -> PublicSigner:
    """Return the signer of a grant that was read."""
    return read_signer(grant.signer.encode(), name="the grant's signer")


def _check_revoked(
    grant: Grant, signer: PublicSigner, data: bytes, seen: SeenLists | None
) -> None:
    name = "the list of revoked grants"
    found: Revocations = read_revocations(data, [signer], name=name)
    least = 0 if seen is None else seen.newest(signer)
    # Remembered first: otherwise an older list would admit a grant that this one
    # revokes.
    if seen is not None:
        seen.remember(signer, found.sequence)
    found.check(grant, seen=least, name=name)
