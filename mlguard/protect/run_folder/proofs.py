"""What a key proves about a run folder: that its holder made what is in it.

A key must only be applied for a model that its holder made. A stranger can copy the
public ids of someone's model beside weights of his own, built so that their answers
spell out the transform; the owner who audits or exports such a folder would read his
own secret aloud. And who worsens the plain twin, or edits what is known of the
training, has an audit say what he likes. So one HMAC stands for the digests of all of
these files, and nothing is derived before it holds: docs/spec/run-v2.md.

Digests are those of the bytes that were parsed, handed in by whoever read them: a file
is never read once to be checked and again to be used.
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
RUN, TWIN = "run", "twin"  # what a folder can be; neither passes for the other
MAX_BYTES = 1 << 13  # of the file: an HMAC and a few digests in hex

# Format 1: an HMAC of the recipe's and one of the model's digest, and no more.
OLD_USES = {RECIPE: "run/setup", MODEL: "run/model"}

Proof = Mapping[str, Any]  # what proofs.json says; a stranger may have written it
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
    """What proofs.json says; nothing if it is missing or damaged."""
    try:
        fields = json.loads(read_bounded(path / PROOFS, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def check(
    path: Path, proof: Proof, subkeys: ModelSubkeys, digests: Digests, *, role: str
) -> None:
    """Refuse files that the holder of the key did not leave in the folder.

    Args:
        path: The folder, for words.
        proof: What `read_proof` gave.
        subkeys: Of the run's protection; of a twin, of the run that it belongs to.
        digests: Of all that a folder of its role and state holds, as it was read.
        role: "run" or "twin".

    Raises:
        TamperedRun: The proof is missing or does not hold, or is of other files.
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
    """Whether a proof is of format 1, which vouches for two files only."""
    return "format" not in proof


def claims_model(proof: Proof) -> bool:
    """Whether a proof, be it true or not, says that the run is finished."""
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
    return text.encode(errors="replace")  # a stranger's JSON may hold any text


def _tampered(file: Path, path: Path) -> TamperedRun:
    return TamperedRun(f"{file} is not what the holder of the key left in {path}")


def refuse_planted(path: Path) -> MalformedRun:
    """The refusal of a finished run that holds the state of an unfinished one."""
    return MalformedRun(
        f"{path} is finished, and yet holds a checkpoint",
        hint="if somebody else can write to the folder, take a copy that you know to "
        "be yours; if training was killed at its very end, delete the checkpoint",
    )
