"""The owner's side: write a customer's file, and renew what lets him into it.

The key of an issued file comes from the model key and the grant's id, so that the owner
can renew a grant without having kept anything but his key.
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
        grant: Who may open it.
        sha256: Of the file, hex.
        cost: What the mark changed; None if the file has none.
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
        signer: Who signs the grant and the file.
        recipient: Whose file it becomes.
        terms: What the owner decides about it.
        out: The file to write.
        mark: Whether its weights carry the customer's mark.
        revocations: The number of the owner's newest list of revoked grants.
        record: Called with the grant and the file's SHA-256 before the file gets its
            name: what cannot be written down is not handed out.
        check: Called with the finished file, and with what opens it, before that.

    Raises:
        WrongKey: The bundle was made for another key.
        TamperedBundle: The bundle is not what the key's owner wrote.
        OptionError: The licensee, the terms or the dates cannot stand in a grant.
        BundleError: The bundle was itself issued.
        OutputExists: There is something at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    if bundle.manifest.issued:
        raise BundleError(
            f"{bundle.name} was issued to a customer, and cannot be issued again",
            hint="issue from the owner's own bundle",
        )
    opened = bundle.unlock(key)
    grant_id = new_grant_id()
    subkeys = key.for_model(bytes.fromhex(bundle.manifest.protection_id))
    secrets = secrets_of(bundle, subkeys, grant_id)
    # Refused now and not after the weights were marked and sealed.
    Grant.of(
        terms,
        secrets,
        recipient,
        signer=signer.public,
        bundle_sha256="0" * 64,
        grant_id=grant_id,
    )
    marker = _Marker(subkeys, grant_id) if mark else None
    model = model_of(opened, marker)
    made: list[Grant] = []

    def beside(hashes: Mapping[str, str]) -> dict[str, bytes]:
        grant = Grant.of(
            terms,
            secrets,
            recipient,
            signer=signer.public,
            bundle_sha256=hashes[MANIFEST],
            grant_id=grant_id,
            revocations=revocations,
        )
        made.append(grant)
        signed = sign_grant(grant, signer)
        files = {**hashes, GRANT: hashlib.sha256(signed).hexdigest()}
        name = out.stem
        signature = sign_files(files, signer, model=name, signature=SIGNATURE)
        return {GRANT: signed, SIGNATURE: signature}

    digests: list[str] = []

    def finished(path: Path) -> None:
        if check is not None:
            check(path, secrets)
        digests.append(sha256_of(path))
        if record is not None:
            record(made[-1], digests[-1])

    owner = FileOwner(
        subkeys.key_id, subkeys.protection_id, subkeys, secrets.content_key
    )
    write_bundle2(
        out,
        model,
        owner,
        seal=bundle.manifest.seal,
        beside=WriteBeside(beside),
        check=finished,
    )
    cost = None if marker is None else marker.cost
    return Issued(out, made[-1], digests[-1], cost)


def renew(
    bundle: Bundle2,
    key: ModelKey,
    signer: Signer,
    recipient: Recipient,
    terms: Terms,
    *,
    revocations: int = 0,
) -> Grant:
    """Give the customer of an issued file a new grant for it, without the model.

    Args:
        bundle: The file that was issued; of it the manifest and the grant are read.
        key: The owner's model key.
        signer: Who signs; the one who signed the file.
        recipient: Whose file it is.
        terms: What the owner decides about it now.
        revocations: The number of the owner's newest list of revoked grants.

    Raises:
        WrongKey: The file was issued under another key, or to another recipient.
        BundleError: The file was not issued.
        OptionError: The terms cannot stand in a grant.
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
    """What a customer's file needs to open, and no more."""
    recorded = _Recorder(subkeys)
    bundle.manifest.keyed.derive(recorded)  # type: ignore[arg-type]
    return Secrets(
        protection_id=subkeys.protection_id,
        key_id=subkeys.key_id,
        content_key=subkeys.derive(CONTENT_KEY + grant_id),
        subkeys=recorded.used,
    )


def model_of(opened: Unlocked, marker: "_Marker | None" = None) -> Model2:
    """What is in a bundle, as it goes into another one."""
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
class _Marker:
    """Marks tensors one by one, and adds up what that changed."""

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
    """The subkeys of a model, and which of them were asked for."""

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
