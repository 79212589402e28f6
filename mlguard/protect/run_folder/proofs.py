"""What a key proves about a run folder: that its holder made it.

A key must only be applied for a model that its holder made. A stranger can copy the
public ids of someone's model beside weights of his own, built so that their answers
spell out the transform; the owner who audits or exports such a folder would read his
own secret aloud. So a run carries two HMACs, and nothing is derived before they hold.
"""

import hmac
import json
from pathlib import Path

from mlguard.errors import TamperedRun
from mlguard.files import atomic_write, sha256_of
from mlguard.keys import ModelSubkeys

SETUP = "run/setup"  # uses of subkeys; docs/spec/keys-v1.md, section 3
MODEL = "run/model"
FILE = "proofs.json"
MAX_BYTES = 1 << 12  # of the file: two HMACs in hex


def prove(path: Path, subkeys: ModelSubkeys, *, recipe: Path, model: Path) -> None:
    """Write the proofs of a run folder: of its recipe, and of its model if it is there.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    proofs = {SETUP: _hmac(subkeys, SETUP, recipe)}
    if model.exists():
        proofs[MODEL] = _hmac(subkeys, MODEL, model)
    atomic_write(path / FILE, (json.dumps(proofs, indent=2) + "\n").encode())


def check_setup(path: Path, subkeys: ModelSubkeys, *, recipe: Path) -> None:
    """Refuse a run that was not begun with this key and this recipe.

    Raises:
        TamperedRun: The proof is missing or does not hold.
    """
    _check(path, subkeys, SETUP, recipe)


def check_model(path: Path, subkeys: ModelSubkeys, *, model: Path) -> None:
    """Refuse weights that were not trained with this key in this run.

    Raises:
        TamperedRun: The proof is missing or does not hold.
    """
    _check(path, subkeys, MODEL, model)


def _check(path: Path, subkeys: ModelSubkeys, use: str, file: Path) -> None:
    try:
        with (path / FILE).open("rb") as opened:
            claimed = str(json.loads(opened.read(MAX_BYTES))[use])
        holds = hmac.compare_digest(
            claimed.encode(), _hmac(subkeys, use, file).encode()
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        holds = False
    if not holds:
        raise TamperedRun(f"{file} is not what the holder of the key left in {path}")


def _hmac(subkeys: ModelSubkeys, use: str, file: Path) -> str:
    digest = bytes.fromhex(sha256_of(file))
    return hmac.digest(subkeys.derive(use), digest, "sha256").hex()
