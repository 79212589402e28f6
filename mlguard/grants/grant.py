"""A grant: who may open which file, and between which dates. docs/spec/grants-v1.md.

The owner signs it, and all its fields are bound to the wrapped keys: an edited grant,
or one moved to another file or recipient, opens nothing. Only this program enforces
dates; a licensee can write a loader that ignores them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from mlguard.canonical import Hex16, Hex32, Hex64
from mlguard.errors import Expired, NotYetValid, OptionError, WrongKey
from mlguard.grants.secrets import Recipient, Secrets, Unwraps
from mlguard.grants.texts import (
    Key,
    Line,
    Moment,
    Number,
    Prose,
    Text,
    moment,
    open_text,
    pem_text,
    sign_text,
)
from mlguard.signing import PublicSigner, Signer, read_envelope, read_signer
from mlguard.signing.keys import MAX_PEM_BYTES
from mlguard.validation import problems_of

PAYLOAD_TYPE = "application/vnd.mlguard.grant+json"
INFO = b"mlguard/grant/v1\0"
GRANT_ID_BYTES = 16
MAX_WRAPPED_BYTES = 1 << 18  # about 1,000 subkeys
HEX = r"^([0-9a-f]{2})*\z"


def new_grant_id() -> str:
    """Draw the public identifier of one grant, 32 hex digits."""
    return os.urandom(GRANT_ID_BYTES).hex()


@dataclass(frozen=True)
class Terms:
    """The terms that an owner sets when he issues a file.

    Attributes:
        licensee: The licensee's name, for people.
        not_before: The first day on which it opens, in UTC; None for any.
        not_after: The last day; None for any.
        text: The terms of the licence; may be empty.
    """

    licensee: str
    not_before: date | None = None
    not_after: date | None = None
    text: str = ""


class Grant(Text):
    """The contents of a grant.

    Attributes:
        grant_id: Public, drawn for this grant; a renewed grant keeps it.
        bundle_sha256: SHA-256 of the manifest of the file that it opens, hex.
        protection_id: The protected model's public identifier.
        key_id: The public name of the owner's key.
        signer: The public key that signs it, as PEM text.
        recipient: The public line of the recipient, who alone can unwrap it.
        licensee: The licensee's name.
        terms: The terms of the licence.
        issued: When it was written, UTC.
        not_before: The first day, UTC.
        not_after: The last day, UTC.
        revocations: The lowest number of the owner's revocation list that a loader with
            a list accepts.
        wrapped: The wrapped keys of the file, in hex.
    """

    format: Literal["mlguard.grant/1"] = "mlguard.grant/1"
    grant_id: Hex32
    bundle_sha256: Hex64
    protection_id: Hex32
    key_id: Hex16
    signer: Annotated[str, Field(max_length=MAX_PEM_BYTES), AfterValidator(pem_text)]
    recipient: Key
    licensee: Line
    terms: Prose = ""
    issued: Moment
    not_before: str | None = None
    not_after: str | None = None
    revocations: Number = 0
    wrapped: Annotated[str, Field(pattern=HEX, max_length=2 * MAX_WRAPPED_BYTES)] = ""

    @model_validator(mode="after")
    def _days(self) -> Self:
        for day in (self.not_before, self.not_after):
            if day is not None and date.fromisoformat(day).isoformat() != day:
                raise ValueError(f"{day} is not a day as YYYY-MM-DD")
        if self.not_before and self.not_after and self.not_before > self.not_after:
            raise ValueError(f"ends on {self.not_after}, before {self.not_before}")
        return self

    @classmethod
    def of(
        cls,
        terms: Terms,
        secrets: Secrets,
        recipient: Recipient,
        *,
        signer: PublicSigner,
        bundle_sha256: str,
        grant_id: str,
        revocations: int = 0,
    ) -> Self:
        """Wrap a file's secrets for one recipient.

        Raises:
            OptionError: The licensee, the terms or the dates are not valid in a grant.
        """
        try:
            draft = cls(
                grant_id=grant_id,
                bundle_sha256=bundle_sha256,
                protection_id=secrets.protection_id.hex(),
                key_id=secrets.key_id,
                signer=signer.pem.decode(),
                recipient=recipient.recipient,
                licensee=terms.licensee,
                terms=terms.text,
                issued=moment(),
                not_before=_iso(terms.not_before),
                not_after=_iso(terms.not_after),
                revocations=revocations,
            )
        except ValidationError as error:
            problem = problems_of(error, whole="dates")[0]
            raise OptionError("the grant", [problem]) from None
        wrapped = recipient.wrap(secrets.to_bytes(), draft.info)
        return draft.model_copy(update={"wrapped": wrapped.hex()})

    @property
    def info(self) -> bytes:
        """The context that the wrapped secrets are bound to: every other field."""
        return INFO + self.to_bytes(without=["wrapped"])

    def unwrap(self, identity: Unwraps, *, name: str) -> Secrets:
        """Return the secrets that open the file.

        Raises:
            WrongKey: The grant is for another recipient, or was edited.
            MalformedBundle: The wrapped bytes do not follow the specification.
        """
        if identity.recipient != self.recipient:
            raise WrongKey(
                f"{name} was issued to {self.licensee!r}, whose recipient is "
                f"{_short(self.recipient)}; this identity is "
                f"{_short(identity.recipient)}",
                hint="use the identity whose recipient the owner has from you",
            )
        return Secrets.from_bytes(
            identity.unwrap(bytes.fromhex(self.wrapped), self.info),
            protection_id=bytes.fromhex(self.protection_id),
            key_id=self.key_id,
            name=name,
        )

    def check_day(self, today: date, *, name: str) -> None:
        """Refuse a day outside the grant's dates.

        Raises:
            NotYetValid: The first day has not come.
            Expired: The last day is over.
        """
        if self.not_before and today.isoformat() < self.not_before:
            raise NotYetValid(
                f"{name} may be used from {self.not_before} on, today is {today} (UTC)"
            )
        if self.not_after and today.isoformat() > self.not_after:
            raise Expired(
                f"{name} could be used until {self.not_after}, today is {today} (UTC)"
            )


def sign_grant(grant: Grant, signer: Signer) -> bytes:
    """Sign a grant, and return the file."""
    return sign_text(grant, PAYLOAD_TYPE, signer)


def read_grant(data: bytes, signers: Sequence[PublicSigner], *, name: str) -> Grant:
    """Read a grant that one of the signers signed.

    Raises:
        SignatureNotTrusted: It is not a grant, or not signed by one of them.
    """
    return open_text(data, Grant, PAYLOAD_TYPE, signers, name=name)


def claimed_signer(data: bytes, *, name: str) -> PublicSigner:
    """Return the signer whom a grant names, before it is trusted.

    His signature, and the binding of the wrapped keys to it, show that the grant was
    not edited. They do not show who he is.

    Raises:
        SignatureNotTrusted: It is not a grant.
    """
    payload = read_envelope(data, name=name).payload
    grant = Grant.from_bytes(payload, name=name)
    return read_signer(grant.signer.encode(), name=name)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _short(recipient: str) -> str:
    return recipient if len(recipient) <= 40 else f"{recipient[:24]}…{recipient[-8:]}"
