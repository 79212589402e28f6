"""The proof that a report was written with the key: audit.proof, beside its files.

Each file has an HMAC under a subkey of the audited model, over its name and content. A
file without a valid proof can still be read, but is shown as unproved.
docs/spec/audit-v4.md, section 10.
"""

import hmac
import json
from collections.abc import Mapping
from pathlib import Path

from mlguard.errors import ReportError
from mlguard.files import read_bounded

PROOF = "audit.proof"
SCHEMA = "mlguard.audit-proof/1"
MAX_PROOF_BYTES = 1 << 16


def proof_of(files: Mapping[str, bytes], secret: bytes) -> bytes:
    """Return the content of audit.proof.

    Args:
        files: The files to prove, by name.
        secret: The subkey of PROOF_USE.
    """
    macs = {name: _mac(name, files[name], secret) for name in sorted(files)}
    return json.dumps({"schema": SCHEMA, "files": macs}, indent=2).encode() + b"\n"


def check_proof(folder: Path, name: str, content: bytes, secret: bytes) -> None:
    """Refuse a file that was not written with the key.

    Args:
        folder: The folder of audit.proof.
        name: The name of the file.
        content: Its content, as read and used.
        secret: The subkey of PROOF_USE.

    Raises:
        ReportError: There is no proof, or it does not match.
    """
    path = folder / PROOF
    try:
        table = json.loads(read_bounded(path, MAX_PROOF_BYTES))
    except OSError as error:
        raise ReportError(
            f"cannot read {path}: {error.strerror}",
            hint="keep it beside its report; without --key, the report is read as "
            "unproved",
        ) from None
    except (ValueError, RecursionError):
        raise ReportError(f"{path} is not JSON") from None
    files = table.get("files") if isinstance(table, dict) else None
    if not isinstance(files, dict) or table.get("schema") != SCHEMA:
        raise ReportError(
            f"{path} is not a proof of an audit: its schema is not {SCHEMA}"
        )
    said = files.get(name)
    right = _mac(name, content, secret)
    if not isinstance(said, str) or not hmac.compare_digest(
        said.encode("utf-8", "replace"), right.encode()
    ):
        raise ReportError(
            f"{folder / name} is not what the holder of the key wrote",
            hint="it was changed, or belongs to another model; audit the model again",
        )


def _mac(name: str, content: bytes, secret: bytes) -> str:
    return hmac.digest(secret, name.encode() + b"\0" + content, "sha256").hex()
