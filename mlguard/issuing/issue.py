"""The owner's side: write a customer's file, and renew its grant.

The key of an issued file comes from the model key and the grant's id, so that the owner
can renew a grant with nothing but his key.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    Model2,
    Unlocked,
    WriteBeside,
    write_bundle2,
)
from mlguard.bundle.archive2 import GRANT, MANIFEST, SIGNATURE
from mlguard.errors import BundleError
from mlguard.files import sha256_of
from mlguard.grants import Grant, Recipient, Secrets, Terms, new_grant_id, sign_grant
from mlguard.issuing.float_types import marked_bytes
from mlguard.issuing.opening import grant_of
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.sealing import PlainTensor
from mlguard.signing import Signer, sign_files

CONTENT_KEY = "issue/content-key/"  # and the grant's id: the use of a subkey


@dataclass(frozen=True)
class MarkCost:
    """How much a mark changed the weights.

    Attributes:
        marked: Weights that carry the code.
        weights: Weights of the model.
        largest: The largest change, as a share of its tensor's largest weight.
    """

    marked: int
    weights: int
    largest: float


@dataclass(frozen=True)
class Issued:
    """A file that was written for a customer.

    Attributes:
        path: The file.
        grant: The grant that opens it.
        sha256: Of the file, hex.
        cost: How much the mark changed; None without a mark.
    """

    path: Path
    grant: Grant
    sha256: str
    cost: MarkCost | None


def issue(
    bundle: Bundle2,
    key: ModelKey,
    signer: Signer,
    recipient: Recipient,
    terms: Terms,
    out: Path,
    *,
    mark: bool = True,
    revocations: int = 0,
    record: Callable[[Grant, str], None] | None = None,
    check: Callable[[Path, Secrets], None] | None = None,
) -> Issued:
    """Write the file of one customer.

    Args:
        bundle: The owner's own bundle.
        key: The key that opens it.
        signer: The key that signs the grant and the file.
        recipient: The recipient of the file.
        terms: The terms of the grant.
        out: The file to write.
        mark: Whether its weights carry the customer's mark.
        revocations: The number of the owner's newest list of revoked grants.
        record: Called with the grant and the file's SHA-256 before the file gets its
            name, so that no file exists without a record.
        check: Called before that with the finished file and the secrets that open it.

    Raises:
        WrongKey: The bundle was made for another key.
        TamperedBundle: The bundle was changed after its owner wrote it.
        OptionError: The licensee, the terms or the dates are not valid in a grant.
        BundleError: The bundle was itself issued.
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    if bundle.manifest.issued:
        raise BundleError(
            f"{bundle.name} was issued to a customer and cannot be issued again",
            hint="issue from the owner's own bundle",
        )
    opened = bundle.unlock(key)
    grant_id = new_grant_id()
    subkeys = key.for_model(bytes.fromhex(bundle.manifest.protection_id))
    papers = _Papers(
        grant_id=grant_id,
        secrets=secrets_of(bundle, subkeys, grant_id),
        signer=signer,
        recipient=recipient,
        terms=terms,
        revocations=revocations,
        name=out.stem,
    )
    papers.grant("0" * 64)  # refused now and not after the weights were marked
    marker = _Marker(subkeys, grant_id) if mark else None
    digests: list[str] = []

    def finished(path: Path) -> None:
        if check is not None:
            check(path, papers.secrets)
        digests.append(sha256_of(path))
        if record is not None:
            record(papers.signed[-1], digests[-1])

    content_key = papers.secrets.content_key
    owner = FileOwner(subkeys.key_id, subkeys.protection_id, subkeys, content_key)
    write_bundle2(
        out,
        model_of(opened, marker),
        owner,
        seal=bundle.manifest.seal,
        beside=WriteBeside(papers.beside),
        check=finished,
    )
    cost = None if marker is None else marker.cost
    return Issued(out, papers.signed[-1], digests[-1], cost)


def renew(
    bundle: Bundle2,
    key: ModelKey,
    signer: Signer,
    recipient: Recipient,
    terms: Terms,
    *,
    revocations: int = 0,
) -> Grant:
    """Return a new grant for an issued file, without the model.

    Args:
        bundle: The issued file; only its manifest and grant are read.
        key: The owner's model key.
        signer: The key that signs, the same as for the file.
        recipient: The recipient of the file.
        terms: The new terms.
        revocations: The number of the owner's newest list of revoked grants.

    Raises:
        WrongKey: The file was issued under another key, or to another recipient.
        BundleError: The file was not issued.
        OptionError: The terms are not valid in a grant.
    """
    old = grant_of(bundle, [signer.public])
    subkeys = key.for_model(bytes.fromhex(bundle.manifest.protection_id))
    secrets = secrets_of(bundle, subkeys, old.grant_id)
    bundle.unlock(secrets)
    return Grant.of(
        terms,
        secrets,
        recipient,
        signer=signer.public,
        bundle_sha256=bundle.digest,
        grant_id=old.grant_id,
        revocations=revocations,
    )


def secrets_of(bundle: Bundle2, subkeys: ModelSubkeys, grant_id: str) -> Secrets:
    """Return the secrets that a customer's file needs, and no others."""
    recorded = _Recorder(subkeys)
    bundle.manifest.keyed.derive(recorded)  # type: ignore[arg-type]
    return Secrets(
        protection_id=subkeys.protection_id,
        key_id=subkeys.key_id,
        content_key=subkeys.derive(CONTENT_KEY + grant_id),
        subkeys=recorded.used,
    )


def model_of(opened: Unlocked, marker: "_Marker | None" = None) -> Model2:
    """Return the contents of a bundle, to be written into another one."""
    about = opened.bundle.manifest
    graph = opened.graph()
    tensors = [
        PlainTensor(
            row.header.name,
            row.header.element_type,
            row.header.shape,
            data if marker is None else marker(row.header, data),
        )
        for row, data in opened.tensors(graph.rows)
    ]
    keyed = about.image is not None and about.image.transform is not None
    return Model2(
        facts=about.facts,
        graph=graph.content,
        tensors=tensors,
        left=about.coverage.plain,
        preprocess=opened.preprocess() if keyed else None,
    )


@dataclass
class _Papers:
    """The grant and the signature that lie in a customer's file.

    Attributes:
        grant_id: Of the grant.
        secrets: What it gives to the recipient.
        signer: Who signs both.
        recipient: Whose file it becomes.
        terms: What the owner decides about it.
        revocations: The number of the owner's newest list of revoked grants.
        name: Of the file, for its signature.
        signed: The grants that were signed.
    """

    grant_id: str
    secrets: Secrets = field(repr=False)
    signer: Signer
    recipient: Recipient
    terms: Terms
    revocations: int
    name: str
    signed: list[Grant] = field(default_factory=list)

    def grant(self, bundle_sha256: str) -> Grant:
        """The grant for a file with this manifest.

        Raises:
            OptionError: The licensee, the terms or the dates cannot stand in a grant.
        """
        return Grant.of(
            self.terms,
            self.secrets,
            self.recipient,
            signer=self.signer.public,
            bundle_sha256=bundle_sha256,
            grant_id=self.grant_id,
            revocations=self.revocations,
        )

    def beside(self, hashes: Mapping[str, str]) -> dict[str, bytes]:
        """Sign a grant for the manifest, and all files together with it."""
        self.signed.append(self.grant(hashes[MANIFEST]))
        signed = sign_grant(self.signed[-1], self.signer)
        files = {**hashes, GRANT: hashlib.sha256(signed).hexdigest()}
        signature = sign_files(files, self.signer, model=self.name, signature=SIGNATURE)
        return {GRANT: signed, SIGNATURE: signature}


@dataclass
class _Marker:
    """A marker of tensors, one by one, that adds up the changes."""

    subkeys: ModelSubkeys
    grant_id: str
    marked: int = 0
    weights: int = 0
    largest: float = 0.0

    def __call__(self, header: object, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        found = marked_bytes(header, data, self.subkeys, bytes.fromhex(self.grant_id))  # type: ignore[arg-type]
        self.marked += found.marked
        self.weights += found.size
        self.largest = max(self.largest, found.largest)
        return found.data

    @property
    def cost(self) -> MarkCost:
        return MarkCost(self.marked, self.weights, self.largest)


@dataclass
class _Recorder:
    """The subkeys of a model, and a record of those derived."""

    subkeys: ModelSubkeys
    used: dict[str, bytes] = field(default_factory=dict)

    @property
    def key_id(self) -> str:
        return self.subkeys.key_id

    @property
    def protection_id(self) -> bytes:
        return self.subkeys.protection_id

    def derive(self, use: str) -> bytes:
        self.used[use] = self.subkeys.derive(use)
        return self.used[use]
