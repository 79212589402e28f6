"""A run folder that is being made: its files so far, and their proof.

It proves only files that this process wrote, or that an older proof covered.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mlguard.files import atomic_write, sha256_of
from mlguard.keys import ModelSubkeys
from mlguard.protect.run_folder.kept import Keeper
from mlguard.protect.run_folder.limits import check_size
from mlguard.protect.run_folder.names import (
    BEST,
    BUILT_BY,
    CHECKPOINT,
    MODEL,
    OLD_CHECKPOINT,
    PROTECTION,
    PROVENANCE,
    RECIPE,
)
from mlguard.protect.run_folder.proofs import check, claims_model, prove, read_proof
from mlguard.protect.run_folder.run import is_finished
from mlguard.protect.run_folder.setup import (
    Setup,
    json_text,
    protection_text,
    recipe_file,
)
from mlguard.protect.run_folder.weights import PRIVATE, write_tensors

RESUMED = "resumed"  # in provenance.json: every session after the first


@dataclass
class Unfinished:
    """A run folder that is being written.

    Attributes:
        path: The folder.
        keeper: Writes and reads the tensors that it keeps until it is finished.
        proving: The subkeys of its proof; None for a plain run.
        digests: SHA-256 of each file written so far, by its name.
    """

    path: Path
    keeper: Keeper
    proving: ModelSubkeys | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def begin(self, setup: Setup) -> None:
        """Write the setup before the first step, and prove it.

        Raises:
            OutputError: There is no space, or the folder is not writable.
        """
        self._write(PROVENANCE, json_text(setup.provenance))
        if setup.protection is not None:
            self._write(PROTECTION, protection_text(setup.protection))
        built_by = setup.provenance.get(BUILT_BY)
        self._write(RECIPE, recipe_file(setup.recipe, built_by))
        self._prove()

    def go_on(self, setup: Setup, session: dict[str, Any]) -> None:
        """Note that another session resumes the run, which was checked."""
        self.digests = dict(setup.digests)
        sessions = [*setup.provenance[RESUMED], session]
        self._write(PROVENANCE, json_text(setup.provenance | {RESUMED: sessions}))

    def finish(self, weights: dict[str, Tensor]) -> None:
        """Write the weights, prove all files, and remove the state of training."""
        write = self.keeper.write if self.keeper.hidden else write_tensors
        self.digests[MODEL] = write(self.path / MODEL, weights)
        self._prove()
        clear(self.path)

    def _write(self, name: str, text: str) -> None:
        atomic_write(self.path / name, text.encode(), mode=PRIVATE)
        self.digests[name] = hashlib.sha256(text.encode()).hexdigest()

    def _prove(self) -> None:
        if self.proving is not None:
            prove(self.path, self.proving, self.digests, role=self.keeper.role)


def is_done(
    path: Path, setup: Setup, proving: ModelSubkeys | None, *, role: str, limit: int
) -> bool:
    """Whether a run is finished; refuse one that the key does not prove.

    Nothing is proved here. The state of an unfinished run is removed from a finished
    one: training was killed at its very end, or somebody put it there.

    Args:
        path: The run folder.
        setup: Its setup.
        proving: The subkeys of its proof; None for a plain run.
        role: "run" or "twin".
        limit: The most bytes that its weights may have.

    Raises:
        TamperedRun: A file was not made with the key.
        MalformedRun: The weights cannot be read.
    """
    if proving is None:
        done = is_finished(path)
    else:
        proof = read_proof(path)
        done = claims_model(proof)
        digests = setup.digests | {PROVENANCE: _as_begun(setup)}
        if done:
            check_size(path / MODEL, limit)
            digests = setup.digests | {MODEL: sha256_of(path / MODEL)}
        check(path, proof, proving, digests, role=role)
    if done:
        clear(path)
    return done


def clear(path: Path) -> None:
    """Remove the files that only an unfinished run holds."""
    for name in (CHECKPOINT, OLD_CHECKPOINT, BEST):
        (path / name).unlink(missing_ok=True)


def _as_begun(setup: Setup) -> str:
    """Return the digest of provenance.json before any session was added to it."""
    text = json_text(setup.provenance | {RESUMED: []})
    return hashlib.sha256(text.encode()).hexdigest()
