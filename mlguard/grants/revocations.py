"""The owner's list of revoked grants. docs/spec/grants-v1.md, section 3.

A loader that is given a list obeys it, but a loader may run without one. Lists are
numbered, so that a loader that has seen a newer one notices an older one.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlguard.canonical import Hex32
from mlguard.errors import Revoked
from mlguard.grants.grant import Grant
from mlguard.grants.texts import Moment, Number, Text, moment, open_text, sign_text
from mlguard.signing import PublicSigner, Signer

PAYLOAD_TYPE = "application/vnd.mlguard.revocations+json"
MAX_REVOKED = 20_000  # about 700 kB of text


class Revocations(Text):
    """The contents of a revocation list.

    Attributes:
        sequence: Its number; each list has a higher one than the list before.
        issued: When it was written, UTC.
        grants: The identifiers of revoked grants, sorted.
    """

    format: Literal["mlguard.revocations/1"] = "mlguard.revocations/1"
    sequence: Number
    issued: Moment
    grants: Annotated[tuple[Hex32, ...], Field(max_length=MAX_REVOKED)] = ()

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        if list(self.grants) != sorted(set(self.grants)):
            raise ValueError("grants are not sorted, or one appears twice")
        return self

    @classmethod
    def first(cls) -> Self:
        """Return the empty list, number 0."""
        return cls(sequence=0, issued=moment())

    def with_grant(self, grant_id: str) -> Self:
        """Return the next list, with one more grant on it."""
        grants = tuple(sorted({*self.grants, grant_id}))
        return type(self)(sequence=self.sequence + 1, issued=moment(), grants=grants)

    def check(self, grant: Grant, *, seen: int, name: str) -> None:
        """Refuse a grant that is on the list, or a list older than one seen.

        Args:
            grant: The grant about to be used.
            seen: The highest number of this owner's lists seen so far.
            name: The name of the list in a refusal.

        Raises:
            Revoked: The grant is revoked, or the list is outdated.
        """
        least = max(seen, grant.revocations)
        if self.sequence < least:
            raise Revoked(
                f"{name}: expected number {least} or later, got number {self.sequence}",
                hint="fetch the owner's newest list",
            )
        if grant.grant_id in self.grants:
            raise Revoked(
                f"the grant of {grant.licensee!r} ({grant.grant_id}) was revoked by "
                f"the owner (list {self.sequence})"
            )


def sign_revocations(revocations: Revocations, signer: Signer) -> bytes:
    """Sign a list, and return the file."""
    return sign_text(revocations, PAYLOAD_TYPE, signer)


def read_revocations(
    data: bytes, signers: Sequence[PublicSigner], *, name: str
) -> Revocations:
    """Read a list that one of the signers signed.

    Raises:
        SignatureNotTrusted: It is not a list, or not signed by one of them.
    """
    return open_text(data, Revocations, PAYLOAD_TYPE, signers, name=name)
