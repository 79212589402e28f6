"""Throw millions of broken bundles, grants and lists at the reader.

Only its own refusals may come out. Starts from the vectors of issued files: the whole
bundle as it lies on a disk; its manifest, table and graph as whoever holds the key
would seal them; grants, signatures and lists as a trusted signer would sign them.

    python benchmarks/fuzz_bundle.py --inputs 1000000 --processes 2
"""

import argparse
import base64
import json
import zlib
from datetime import date
from functools import partial
from pathlib import Path

from fuzz_keystore import Target, fuzz, report

from keystore import Identity, KeystoreError
from mlguard.bundle import bundle2_of
from mlguard.bundle.archive2 import MANIFEST
from mlguard.bundle.graph_limits import check_graph
from mlguard.bundle.manifest2 import parse_manifest2
from mlguard.bundle.tensor_table import parse_table
from mlguard.cli.parties import Holder
from mlguard.errors import MlguardError
from mlguard.grants import Grant, Revocations, Secrets
from mlguard.grants.grant import PAYLOAD_TYPE, read_grant
from mlguard.grants.ledger import LedgerEntry
from mlguard.issuing import Conditions, open_issued
from mlguard.signing import SigningKey, read_envelope, seal_envelope, verify_files

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "issued.json"
OWNER = SigningKey(bytes(range(1, 33)))
TODAY = Conditions(today=date(2026, 6, 1), signers=[OWNER.public])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = partial(fuzz, prepare, (MlguardError, KeystoreError), None)
    report(work, options.inputs, options.processes, options.seed)


def prepare() -> dict[str, Target]:
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

    return {
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


if __name__ == "__main__":
    main()
