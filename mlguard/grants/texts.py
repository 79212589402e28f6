"""The signed texts of this room: strict, canonical JSON with a closed set of fields."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mlguard.canonical import canonical
from mlguard.errors import SignatureNotTrusted
from mlguard.signing import PublicSigner, Signer, read_envelope, seal_envelope
from mlguard.validation import problems_of, refuse_crowded

MAX_TEXT = 200  # characters of a name
MAX_TERMS = 64_000  # characters; a licence of some pages


def _printable(text: str) -> str:
    # These texts are shown in terminals, where control characters are commands.
    if not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("holds control characters")
    return text


def _line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("is not a line of printable text")
    return text


def pem_text(text: str) -> str:
    """Accept lines of printable ASCII, as a public key in PEM has them."""
    if not text.isascii() or not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("is not PEM text")
    return text


Line = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_line)]
Key = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_line)]
Prose = Annotated[str, Field(max_length=MAX_TERMS), AfterValidator(_printable)]
Number = Annotated[int, Field(ge=0, le=2**53 - 1)]
Moment = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\dZ\z")
]  # UTC


def moment() -> str:
    """Return the time now, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Text(BaseModel):
    """A signed text. One content has exactly one spelling."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def to_bytes(self, *, without: Sequence[str] = ()) -> bytes:
        """Return it in its one spelling."""
        fields = self.model_dump(mode="json", by_alias=True, exclude=set(without))
        return canonical(fields)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str) -> Self:
        """Read it, refusing every other spelling.

        Raises:
            SignatureNotTrusted: It does not follow the specification.
        """
        try:
            refuse_crowded(data)
            text = cls.model_validate_json(data)
        except ValidationError as error:
            problem = problems_of(error, whole="the text")[0]
            raise SignatureNotTrusted(f"{name}: {problem}") from None
        except ValueError as problem:
            raise SignatureNotTrusted(f"{name} {problem}") from None
        if text.to_bytes() != data:
            raise SignatureNotTrusted(f"{name} is not in its canonical spelling")
        return text


Kind = TypeVar("Kind", bound=Text)


def sign_text(text: Text, payload_type: str, signer: Signer) -> bytes:
    """Sign a text, and return the file."""
    return seal_envelope(text.to_bytes(), payload_type, signer)


def open_text(
    data: bytes,
    kind: type[Kind],
    payload_type: str,
    signers: Sequence[PublicSigner],
    *,
    name: str,
) -> Kind:
    """Read a text that one of the signers signed, and is of the kind expected.

    Raises:
        SignatureNotTrusted: It is not, or is of another kind.
    """
    envelope = read_envelope(data, name=name)
    envelope.open(signers, name=name)
    if envelope.payload_type != payload_type:
        raise SignatureNotTrusted(
            f"{name} is signed, but as {envelope.payload_type}, expected {payload_type}"
        )
    return kind.from_bytes(envelope.payload, name=name)
