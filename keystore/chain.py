"""The chain of membership: every change of the slots, signed by a member before it.

A removed member can therefore add nobody, and somebody who knows the public keys cannot
choose a store key. Only the pins tell two forks of a chain apart.
docs/spec/keystore-v2.md, section 4.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keystore.canonical import MAX_INTEGER, Fields, encode
from keystore.errors import SlotError, TamperedKeystore
from keystore.recipient import VERIFY_BYTES
from keystore.slots import ID_BYTES, MAX_SLOTS, Slot

MAX_LINKS = 1000
DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
LINK_FIELDS = (
    "added",
    "by",
    "generation",
    "key",
    "previous",
    "removed",
    "signature",
)
ADDED_FIELDS = ("digest", "id", "verify")


class Signer(Protocol):
    """A private key that signs a link."""

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature."""


@dataclass(frozen=True, kw_only=True, order=True)
class Added:
    """A slot, as a link names it."""

    id: str
    digest: str
    verify: str

    @classmethod
    def of(cls, slot: Slot) -> "Added":
        """The name of a slot."""
        if slot.keys is None:
            raise ValueError("a slot of format 1 cannot be part of a chain")
        verify = slot.keys.recipient.verify.hex()
        return cls(id=slot.id, digest=slot.digest(), verify=verify)

    def to_json(self) -> dict[str, object]:
        """The fields as the header writes them."""
        return {"digest": self.digest, "id": self.id, "verify": self.verify}


@dataclass(frozen=True, kw_only=True)
class Link:
    """One change of the membership.

    Attributes:
        by: The slot of the member who signed it.
        key: The key id of the store key from then on.
        previous: The digest of the link before.
    """

    added: tuple[Added, ...]
    removed: tuple[str, ...]
    by: str
    generation: int
    key: str
    previous: str
    signature: bytes = b""

    def to_json(self) -> dict[str, object]:
        """The fields as the header writes them."""
        return self._unsigned() | {"signature": self.signature.hex()}

    def digest(self) -> str:
        """What the next link, and a pin, name it by."""
        return hashlib.sha256(encode(self.to_json())).hexdigest()

    def signed(self, signer: Signer, store_id: bytes) -> "Link":
        """The link with a signature."""
        return replace(self, signature=signer.sign(self.message(store_id)))

    def message(self, store_id: bytes) -> bytes:
        """The bytes that are signed."""
        return b"mlguard keystore link 2\n" + store_id + encode(self._unsigned())

    @classmethod
    def read(cls, item: object) -> "Link":
        """Read a link, strictly.

        Raises:
            MalformedKeystore: It does not follow the specification.
        """
        fields = Fields(item, "link", LINK_FIELDS)
        added = tuple(map(_read_added, fields.items("added", 0, MAX_SLOTS)))
        removed = tuple(map(_read_id, fields.items("removed", 0, MAX_SLOTS)))
        if not (_ascending([each.id for each in added]) and _ascending(removed)):
            raise fields.bad("added or removed", "in order")
        if not added and not removed:
            raise fields.bad("added", "a non-empty list where nothing is removed")
        size = SIGNATURE_BYTES
        return cls(
            added=added,
            removed=removed,
            by=fields.octets("by", ID_BYTES, ID_BYTES).hex(),
            generation=fields.integer("generation", 1, MAX_INTEGER),
            key=fields.octets("key", DIGEST_BYTES, DIGEST_BYTES).hex(),
            previous=fields.octets("previous", DIGEST_BYTES, DIGEST_BYTES).hex(),
            signature=fields.octets("signature", size, size),
        )

    def _unsigned(self) -> dict[str, object]:
        return {
            "added": [each.to_json() for each in self.added],
            "by": self.by,
            "generation": self.generation,
            "key": self.key,
            "previous": self.previous,
            "removed": list(self.removed),
        }


def read_chain(items: Sequence[object]) -> tuple[Link, ...]:
    """Read the links of a header, without checking them yet.

    Raises:
        MalformedKeystore: A link does not follow the specification.
    """
    return tuple(map(Link.read, items))


def next_link(
    chain: Sequence[Link],
    before: Sequence[Slot],
    after: Sequence[Slot],
    *,
    by: str,
    generation: int,
    key: str,
    store_id: bytes,
) -> Link:
    """Return the link that leads from some slots to others, not signed yet.

    Raises:
        SlotError: The chain is as long as it may be.
    """
    if len(chain) == MAX_LINKS:
        raise SlotError(
            f"the slots were changed {MAX_LINKS} times, which is the limit",
            hint="make a new keystore, and move the keys there",
        )
    old, new = ({Added.of(slot) for slot in slots} for slots in (before, after))
    return Link(
        added=tuple(sorted(new - old)),
        removed=tuple(sorted(each.id for each in old - new)),
        by=by,
        generation=generation,
        key=key,
        previous=chain[-1].digest() if chain else start_of(store_id),
    )


def check_chain(
    chain: Sequence[Link], slots: Sequence[Slot], generation: int, store_id: bytes
) -> None:
    """Follow the chain from its start to the slots of the header.

    Raises:
        TamperedKeystore: A link was not made by a member, or does not lead there.
    """
    members: dict[str, Added] = {}
    previous, last, key = start_of(store_id), 0, ""
    for number, link in enumerate(chain, 1):
        _check_link(link, members, number, store_id)
        if link.previous != previous or not last <= link.generation <= generation:
            raise _refused(number, "does not follow the one before")
        if (link.key == key) == bool(link.removed) and number > 1:
            raise _refused(number, "has the wrong store key")
        for gone in link.removed:
            del members[gone]
        members |= {each.id: each for each in link.added}
        if not 1 <= len(members) <= MAX_SLOTS:
            raise _refused(number, "leaves no member, or too many")
        previous, last, key = link.digest(), link.generation, link.key
    if {Added.of(slot) for slot in slots} != set(members.values()):
        raise TamperedKeystore("the slots are not those that members agreed on")


def start_of(store_id: bytes) -> str:
    """Return the digest that the first link follows."""
    return hashlib.sha256(b"mlguard keystore chain 2\n" + store_id).hexdigest()


def _check_link(
    link: Link, members: dict[str, Added], number: int, store_id: bytes
) -> None:
    added = {each.id: each for each in link.added}
    if not set(link.removed) <= set(members) or set(added) & set(members):
        raise _refused(
            number, "removes a slot that was not a member, or adds one that was"
        )
    signer = members.get(link.by) if number > 1 else added.get(link.by)
    if signer is None:
        raise _refused(number, "was not signed by a member")
    try:
        verify = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.verify))
        verify.verify(link.signature, link.message(store_id))
    except (InvalidSignature, ValueError):
        raise _refused(number, "has an invalid signature") from None


def _refused(number: int, reason: str) -> TamperedKeystore:
    return TamperedKeystore(f"change {number} of the slots {reason}")


def _read_added(item: object) -> Added:
    fields = Fields(item, "member", ADDED_FIELDS)
    return Added(
        id=fields.octets("id", ID_BYTES, ID_BYTES).hex(),
        digest=fields.octets("digest", DIGEST_BYTES, DIGEST_BYTES).hex(),
        verify=fields.octets("verify", VERIFY_BYTES, VERIFY_BYTES).hex(),
    )


def _read_id(item: object) -> str:
    return Fields({"id": item}, "link", ("id",)).octets("id", ID_BYTES, ID_BYTES).hex()


def _ascending(ids: Sequence[str]) -> bool:
    return all(a < b for a, b in pairwise(ids))
