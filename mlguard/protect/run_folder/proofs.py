"""The proof, by a key, that its holder made the files of a run folder.

A key must only be applied to a model that its holder made. An adversary can copy the
public ids of a model beside weights of his own, built so that their answers spell out
the transform; an owner who audits or exports such a folder would reveal his own secret.
And an adversary who worsens the plain twin, or edits the facts about the training,
controls the result of an audit. So one HMAC covers the digests of all of these files,
and nothing is derived before it is verified: docs/spec/run-v2.md.

Digests are those of the bytes that were parsed, handed in by the code that read them: a
file is never read once to be checked and again to be used.
"""

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlguard.errors import MalformedRun, TamperedRun
from mlguard.files import atomic_write, read_bounded
from mlguard.keys import ModelSubkeys
from mlguard.protect.run_folder.names import MODEL, PROOFS, RECIPE
from mlguard.protect.run_folder.weights import PRIVATE

FORMAT = 2
USE = "run/files"  # of the subkey; docs/spec/keys-v1.md, section 3
RUN, TWIN = "run", "twin"  # the roles of a folder; neither passes for the other
MAX_BYTES = 1 << 13  # of the file: an HMAC and a few digests in hex

# Format 1: one HMAC of the recipe's digest and one of the model's, and no more.
OLD_USES = {RECIPE: "run/setup", MODEL: "run/model"}

Proof = Mapping[str, Any]  # the contents of proofs.json, which are untrusted
Digests = Mapping[str, str]  # the name of a file, and its SHA-256 in hex


def prove(path: Path, subkeys: ModelSubkeys, digests: Digests, *, role: str) -> None:
    """Write the proof of a run folder. With the model in it, the run is finished.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    fields = {"format": FORMAT, "role": role, "files": dict(sorted(digests.items()))}
    proved = fields | {"proof": _hmac(subkeys, fields)}
    text = json.dumps(proved, indent=2) + "\n"
    atomic_write(path / PROOFS, text.encode(), mode=PRIVATE)


def read_proof(path: Path) -> dict[str, Any]:
    """Return the contents of proofs.json; empty if it is missing or damaged."""
    try:
        fields = json.loads(read_bounded(path / PROOFS, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def check(
    path: Path, proof: Proof, subkeys: ModelSubkeys, digests: Digests, *, role: str
) -> None:
    """Refuse files that were not made with the key.

    Args:
        path: The folder, for messages.
        proof: The result of `read_proof`.
        subkeys: The subkeys of the run's protection; for a twin, those of its run.
        digests: The digests of all files of a folder of its role and state, as read.
        role: "run" or "twin".

    Raises:
        TamperedRun: The proof is missing or invalid, or covers other files.
    """
    if is_old(proof) and role == RUN:
        return _check_old(path, proof, subkeys, digests)
    proved = {name: proof.get(name) for name in ("format", "role", "files")}
    claimed = str(proof.get("proof"))
    if not hmac.compare_digest(_bytes(claimed), _bytes(_hmac(subkeys, proved))):
        raise _tampered(path / PROOFS, path)
    if (proved["format"], proved["role"]) != (FORMAT, role):
        raise _tampered(path / PROOFS, path)
    files = dict(proof["files"])
    for name, digest in digests.items():
        if files.pop(name, None) != digest:
            raise _tampered(path / name, path)
    for name in files:
        raise _tampered(path / name, path)
    return None


def is_old(proof: Proof) -> bool:
    """Whether a proof is of format 1, which covers only two files."""
    return "format" not in proof


def claims_model(proof: Proof) -> bool:
    """Whether a proof, valid or not, says that the run is finished."""
    files = proof.get("files")
    return OLD_USES[MODEL] in proof or (isinstance(files, dict) and MODEL in files)


def _check_old(
    path: Path, proof: Proof, subkeys: ModelSubkeys, digests: Digests
) -> None:
    for name, use in OLD_USES.items():
        if name in digests:
            digest = bytes.fromhex(digests[name])
            holds = hmac.digest(subkeys.derive(use), digest, "sha256").hex()
            if not hmac.compare_digest(_bytes(str(proof.get(use))), _bytes(holds)):
                raise _tampered(path / name, path)


def _hmac(subkeys: ModelSubkeys, fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hmac.digest(subkeys.derive(USE), text.encode(), "sha256").hex()


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")  # hostile JSON may hold any text


def _tampered(file: Path, path: Path) -> TamperedRun:
    return TamperedRun(f"{file} is not what the holder of the key left in {path}")


def refuse_planted(path: Path) -> MalformedRun:
    """Return the refusal of a finished run with the state of an unfinished one."""
    return MalformedRun(
        f"{path} is finished, but it holds a checkpoint",
        hint="if somebody else can write to the folder, use a copy that you know to "
        "be yours; if training was killed at its very end, delete the checkpoint",
    )
