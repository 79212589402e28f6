"""The target of an audit, in one form for runs and bundles. Needs torch.

A run folder has weights, a recipe and perhaps a plain twin; a bundle has graphs and a
manifest. The rest of the audit does not depend on either.
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
        subject: Its description in the report.
        model_sha256: SHA-256 of its weights, or of its graph.
        baseline_sha256: SHA-256 of its plain twin's weights; None if there is none.
        data: The images that it is for.
        spec: Its methods; public.
        model: The recipe's [model] section; None if only a graph is known.
        build: A function that makes the model, if the recipe's architecture does not.
        transforms: The transforms of every key of the audit.
        shown_by_weights: Whether the weights reveal the transform of images.
        secret: The subkey that authenticates the log.
        proof_secret: The subkey that proves the report.
        load: A function that returns the model in eval mode, a new one each time.
        load_baseline: A function that returns its plain twin, or None.
        device: The device to compute on.
        processor: The device's name in the report; empty for torch's name.
        old_proof: Whether the run's proof omits its twin and its provenance.
        trained_on: How many images it was trained on; 0 if unknown.
        trained_fingerprint: The fingerprint of these images.
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
        """The key space in bits, without what the model itself reveals."""
        correct = self.transforms.correct
        if self.sealed and correct.empty:
            return SECRET_BITS  # bits of the key that everything is sealed under
        return correct.channel_bits if self.shown_by_weights else correct.key_space_bits

    @property
    def sealed(self) -> bool:
        """Whether it cannot run without the key."""
        return self.subject.access == "sealed"


def digest(path: Path) -> str:
    """Return the SHA-256 of a weights file.

    Raises:
        MalformedRun: It cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror}") from None
