"""What is audited, in one form for everything that can be. Needs torch.

A run folder has weights, a recipe and perhaps a plain twin; a bundle has graphs and a
manifest. The rest of the audit asks neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mlguard import recipe
from mlguard.audit.findings import AuditedModel
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.errors import MalformedRun
from mlguard.files import sha256_of
from mlguard.transforms import SECRET_BITS


@dataclass(frozen=True)
class Target:
    """One protected model under one key, ready to be audited.

    Attributes:
        subject: What the report says of it.
        model_sha256: Of its weights, or of its graph.
        baseline_sha256: Of its plain twin's weights; None if there is none.
        data: Which images it is for.
        spec: What its key does; public.
        model: The recipe's [model] section; None where only a graph is known.
        build: Makes the model, if the recipe's architecture does not.
        transforms: What every key of the audit does.
        shown_by_weights: Whether the weights show what is done to images.
        secret: Authenticates the log.
        proof_secret: Proves the report.
        load: Gives the model in eval mode, a new one each time.
        load_baseline: Gives its plain twin, or None.
        device: Where to compute.
        processor: What to call that in the report; empty for what torch calls it.
        old_proof: Whether the run's proof leaves out its twin and its provenance.
        trained_on: How many images it was trained on; 0 if that is not known.
        trained_fingerprint: Of these images.
        words: The first words of the command that audits it again.
    """

    subject: AuditedModel
    model_sha256: str
    baseline_sha256: str | None
    data: recipe.Data
    spec: recipe.Transform
    model: recipe.Model | None
    build: Callable[[], nn.Module] | None
    transforms: AuditTransforms
    shown_by_weights: bool
    secret: bytes = field(repr=False)
    proof_secret: bytes = field(repr=False)
    load: Callable[[], Subject]
    load_baseline: Callable[[], Subject | None]
    device: torch.device
    processor: str
    old_proof: bool
    trained_on: int
    trained_fingerprint: str | None
    words: tuple[str, ...]

    @property
    def key_space_bits(self) -> float:
        """Bits that someone who has the model does not read off it."""
        correct = self.transforms.correct
        if self.sealed and correct.image is None and not correct.channels:
            return SECRET_BITS  # of the key that everything is sealed under
        return correct.channel_bits if self.shown_by_weights else correct.key_space_bits

    @property
    def sealed(self) -> bool:
        """Whether nobody can run it without the key."""
        return self.subject.access == "sealed"


def digest(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        MalformedRun: It cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror}") from None
