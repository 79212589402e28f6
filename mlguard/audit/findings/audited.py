"""The subject of an audit: the model, the images, and the machine. No torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mlguard.audit.findings.numbers import STRICT, Access, Count, Positive

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
SEALING = "weights"  # the method that seals every weight in every file
SPLIT = "split"  # the method whose host has nothing of the owner's
Engine = Literal["torch", "onnxruntime"]
Identifier = Annotated[str, Field(pattern="^[0-9a-f]+$", max_length=64)]


@dataclass(frozen=True, kw_only=True)
class AuditedModel:
    """The audited model.

    Attributes:
        key_id: Public name of the correct key.
        protection_id: Public id of the model, in hex.
        recipe: The recipe's name; empty if the run does not name it.
        recipe_sha256: Digest of the resolved recipe; None if unknown.
        architecture: The model's name in the recipe.
        methods: The transforms, in the order applied.
        block_size: M, in pixels; 1 if no method works on images.
        layers: The layers whose outputs are permuted.
        training_seed: The recipe's train.seed.
        access: How the model was accessed: with its weights, as in a run folder, or as
            the graph of a bundle, which may be sealed.
        sealed_files: Whether every weight is sealed in all files, so that `access` is
            that of a thief who took the opened model from memory.
    """

    __pydantic_config__ = STRICT

    key_id: Identifier
    protection_id: Identifier
    recipe: str
    recipe_sha256: Sha256 | None
    architecture: str
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    block_size: Positive
    training_seed: Count
    layers: tuple[str, ...]
    access: Access = "weights"
    sealed_files: bool = False

    @property
    def in_halves(self) -> bool:
        """Whether what is private never lies where the rest of the model runs."""
        return SPLIT in self.methods


@dataclass(frozen=True, kw_only=True)
class Material:
    """The images of the audit.

    Attributes:
        kind: The recipe's data.kind.
        split: The split's name.
        fingerprint: SHA-256 over the ids and contents of the split's files.
        size: Height and width the images were resized to, in pixels.
    """

    __pydantic_config__ = STRICT

    kind: str
    split: str
    fingerprint: Sha256
    size: tuple[Positive, Positive]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of the audit, without a host name.

    Attributes:
        system: The operating system.
        processor: Its model name.
        cores: Logical cores.
        threads: Threads torch computed with.
        device: The accelerator's model name, or "cpu".
        engine: What scored the protected model; its plain twin, and what an attack
            trained, are run by torch.
    """

    __pydantic_config__ = STRICT

    system: str
    processor: str
    cores: Positive
    threads: Positive
    device: str
    engine: Engine = "torch"
