"""Entries: named secrets in versions, and the payload that holds them.

The payload has two lines for each entry, so that opening a large store need not read
every body. docs/spec/keystore-v1.md, section 6.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, get_args

from keystore.canonical import NAME, PURPOSE, Fields, decode, encode, now
from keystore.errors import InvalidName, KeyNotFound, MalformedKeystore

MAX_ENTRIES = 100_000
MAX_VERSIONS = 65_535
MAX_VERSION_ID = 2**31 - 1
MAX_SECRET_BYTES = 4096
MAX_USES = 10_000
MAX_NOTE = 1000  # characters
MAX_REFERENCE = 500  # characters

State = Literal["enabled", "disabled", "destroyed"]
STATE = re.compile("|".join(get_args(State)))
ENTRY_FIELDS = ("note", "policy", "primary", "purpose", "uses", "versions")


def check_name(name: str) -> str:
    """Return the name if it is valid for a key.

    Raises:
        InvalidName: It is not valid.

    Example:
        >>> check_name("acme-2")
        'acme-2'
    """
    if not NAME.fullmatch(name):
        raise InvalidName(f"{name!r} is not a valid name for a key")
    return name


@dataclass(frozen=True, kw_only=True)
class Version:
    """One secret of a key. A destroyed version keeps its place, not its secret."""

    id: int
    created: str
    state: State = "enabled"
    compromised: bool = False
    secret: bytes | None = field(repr=False)

    def to_json(self) -> dict[str, object]:
        """The fields as the payload writes them."""
        return {
            "compromised": self.compromised,
            "created": self.created,
            "id": self.id,
            "secret": None if self.secret is None else self.secret.hex(),
            "state": self.state,
        }

    @classmethod
    def read(cls, item: object) -> "Version":
        """Read a version, strictly."""
        names = ("compromised", "created", "id", "secret", "state")
        fields = Fields(item, "version", names)
        state = fields.text("state", STATE, "a state")
        secret = None
        if state != "destroyed":
            secret = fields.octets("secret", 1, MAX_SECRET_BYTES)
        elif fields.raw("secret") is not None:
            raise fields.bad("secret", "null in a destroyed version")
        return cls(
            id=fields.integer("id", 1, MAX_VERSION_ID),
            created=fields.time("created"),
            state=state,  # type: ignore[arg-type]
            compromised=fields.flag("compromised"),
            secret=secret,
        )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be done with a key. Both are off by default."""

    deletion_allowed: bool = False
    exportable: bool = False

    def to_json(self) -> dict[str, object]:
        """The fields as the payload writes them."""
        return {
            "deletion_allowed": self.deletion_allowed,
            "exportable": self.exportable,
        }

    @classmethod
    def read(cls, item: object) -> "Policy":
        """Read a policy, strictly."""
        fields = Fields(item, "policy", ("deletion_allowed", "exportable"))
        return cls(
            deletion_allowed=fields.flag("deletion_allowed"),
            exportable=fields.flag("exportable"),
        )


@dataclass(frozen=True, kw_only=True, order=True)
class Use:
    """Something that needs a version of a key: a run, a checkpoint, a bundle."""

    kind: str
    reference: str
    version: int
    since: str = field(compare=False)

    def to_json(self) -> dict[str, object]:
        """The fields as the payload writes them."""
        return {
            "kind": self.kind,
            "reference": self.reference,
            "since": self.since,
            "version": self.version,
        }

    @classmethod
    def read(cls, item: object) -> "Use":
        """Read a use, strictly."""
        fields = Fields(item, "use", ("kind", "reference", "since", "version"))
        return cls(
            kind=fields.text("kind", PURPOSE, "a kind of use"),
            reference=fields.prose("reference", 1, MAX_REFERENCE),
            version=fields.integer("version", 1, MAX_VERSION_ID),
            since=fields.time("since"),
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named key: its versions, which of them is primary, and its purpose."""

    name: str
    purpose: str
    primary: int
    versions: tuple[Version, ...]
    policy: Policy = Policy()
    uses: tuple[Use, ...] = ()
    note: str = ""

    @classmethod
    def new(cls, name: str, secret: bytes, *, purpose: str) -> "Entry":
        """An entry with one version, which is primary.

        Raises:
            InvalidName: The name or the purpose is not one.
        """
        check_name(name)
        if not PURPOSE.fullmatch(purpose):
            raise InvalidName(f"{purpose!r} is not a valid purpose")
        first = Version(id=1, created=now(), secret=check_secret(secret))
        return cls(name=name, purpose=purpose, primary=1, versions=(first,))

    def version(self, number: int | None = None) -> Version:
        """Return a version by its number, or the primary one.

        Raises:
            KeyNotFound: There is no such version.
        """
        wanted = self.primary if number is None else number
        for version in self.versions:
            if version.id == wanted:
                return version
        known = ", ".join(str(version.id) for version in self.versions[-8:])
        raise KeyNotFound(f"{self.name} has no version {wanted}; it has {known}")

    def with_version(self, secret: bytes) -> "Entry":
        """Return the entry with one more version, which is not primary yet."""
        number = self.versions[-1].id + 1
        version = Version(id=number, created=now(), secret=check_secret(secret))
        return replace(self, versions=(*self.versions, version))

    def without_secrets(self) -> "Entry":
        """Return the same metadata without any secret."""
        bare = tuple(replace(version, secret=None) for version in self.versions)
        return replace(self, versions=bare)

    def encode(self) -> bytes:
        """Return the body line, without its line end."""
        return encode(
            {
                "note": self.note,
                "policy": self.policy.to_json(),
                "primary": self.primary,
                "purpose": self.purpose,
                "uses": [use.to_json() for use in self.uses],
                "versions": [version.to_json() for version in self.versions],
            }
        )

    @classmethod
    def decode(cls, name: str, body: bytes | memoryview) -> "Entry":
        """Read a body line.

        Raises:
            MalformedKeystore: It does not follow the specification.
        """
        what = f"entry {name}"
        fields = Fields(decode(body, what), what, ENTRY_FIELDS)
        items = fields.items("versions", 1, MAX_VERSIONS)
        versions = tuple(Version.read(item) for item in items)
        uses = tuple(Use.read(item) for item in fields.items("uses", 0, MAX_USES))
        ids = [version.id for version in versions]
        primary = fields.integer("primary", 1, MAX_VERSION_ID)
        if not _ascending(ids) or not _ascending(uses):
            raise MalformedKeystore(f"{what}: versions or uses are not in order")
        if not {primary, *(use.version for use in uses)} <= set(ids):
            raise MalformedKeystore(f"{what} refers to a version that is missing")
        return cls(
            name=name,
            purpose=fields.text("purpose", PURPOSE, "a purpose"),
            primary=primary,
            versions=versions,
            policy=Policy.read(fields.raw("policy")),
            uses=uses,
            note=fields.prose("note", 0, MAX_NOTE),
        )


def check_secret(secret: bytes) -> bytes:
    """Return the secret if a version can hold it; a wrong one is a bug."""
    if not isinstance(secret, bytes) or not 1 <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret is 1 to {MAX_SECRET_BYTES} bytes")
    return secret


def _ascending(values: Sequence[int] | Sequence[Use]) -> bool:
    return all(a < b for a, b in pairwise(values))  # type: ignore[operator]
