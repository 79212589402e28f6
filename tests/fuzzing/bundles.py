"""Parsers of a bundle: the file, its manifest, table and graph, grants and signatures.

Starts from the vectors of issued files: the whole bundle as it lies on a disk; its
manifest, table and graph as whoever holds the key would seal them; grants, signatures
and lists as a trusted signer would sign them.
"""

import base64
import io
import json
import zlib
from datetime import date
from pathlib import Path

from keystore import Identity
from mlguard.bundle import bundle2_of
from mlguard.bundle.archive import unpack_first
from mlguard.bundle.archive2 import MANIFEST
from mlguard.bundle.bundle import parse_bundle
from mlguard.bundle.graph_limits import check_graph
from mlguard.bundle.manifest import parse_manifest
from mlguard.bundle.manifest2 import parse_manifest2
from mlguard.bundle.tensor_table import parse_table
from mlguard.cli.parties import Holder
from mlguard.grants import Grant, Revocations, Secrets
from mlguard.grants.grant import PAYLOAD_TYPE, read_grant
from mlguard.grants.ledger import LedgerEntry
from mlguard.issuing import Conditions, open_issued
from mlguard.signing import SigningKey, read_envelope, seal_envelope, verify_files
from tests.fuzzing.harness import Target

TESTS = Path(__file__).parents[1]
VECTORS = TESTS / "vectors" / "issued.json"
OLD = sorted((TESTS / "golden" / "v0.1").glob("*.mlgb"))
OWNER = SigningKey(bytes(range(1, 33)))
TODAY = Conditions(today=date(2026, 6, 1), signers=[OWNER.public])


def targets() -> dict[str, Target]:
    """Each part of the format; what stands under a key is read as if it had held."""
    given = json.loads(VECTORS.read_text("utf-8"))
    holder = Holder(Identity(bytes.fromhex(given["identity"])))
    files = [zlib.decompress(base64.b64decode(one["bundle"])) for one in given["cases"]]
    good = bundle2_of(files[0], name="good")
    secrets = open_issued(good, holder, TODAY)
    opened = good.unlock(secrets)
    table = opened.blob(good.manifest.table_member, hidden=True)
    grant = read_envelope(good.grant or b"", name="grant").payload
    signature = good.signature or b""
    hashes = {name: "00" * 32 for name, _, _ in good.signed_parts()}
    first = Revocations.first().with_grant("00" * 16)

    def read_file(data: bytes) -> None:
        bundle = bundle2_of(data, name="it")
        found = bundle.unlock(open_issued(bundle, holder, TODAY))
        for _ in found.tensors(found.graph().rows):
            pass

    def read_signed_grant(data: bytes) -> None:
        read_grant(seal_envelope(data, PAYLOAD_TYPE, OWNER), [OWNER.public], name="it")

    def read_secrets(data: bytes) -> None:
        facts = {"protection_id": bytes(16), "key_id": "ab" * 8}
        Secrets.from_bytes(data, **facts, name="it")  # type: ignore[arg-type]

    def read_old(data: bytes) -> None:
        parse_bundle(io.BytesIO(data), len(data), name="it")

    old = [path.read_bytes() for path in OLD]
    old_manifest = unpack_first(io.BytesIO(old[0]), len(old[0]), name="old")
    return {
        "file of format 1": Target(old, read_old),
        "manifest of format 1": Target(
            [old_manifest], lambda data: parse_manifest(data, name="it")
        ),
        "file": Target([one for one in files if one], read_file),
        "manifest": Target(
            [good.read(MANIFEST)], lambda data: parse_manifest2(data, name="it")
        ),
        "table": Target([table], lambda data: parse_table(data, name="it")),
        "graph": Target(
            [opened.graph().content],
            lambda data: check_graph(data, name="it", foreign=True),
        ),
        "grant": Target([grant], lambda data: Grant.from_bytes(data, name="it")),
        "signed grant": Target([grant], read_signed_grant),
        "secrets": Target([secrets.to_bytes()], read_secrets),
        "list": Target(
            [first.to_bytes()], lambda data: Revocations.from_bytes(data, name="it")
        ),
        "ledger": Target(
            [grant, first.to_bytes()],
            lambda data: LedgerEntry.from_bytes(data, name="it"),
        ),
        "signature": Target(
            [signature],
            lambda data: verify_files(data, hashes, [OWNER.public], name="it"),
        ),
    }
