"""The architectures that a recipe can name, one file for each family."""

from mlguard.models.architectures.build import ARCHITECTURES, build_model, logits_of
from mlguard.models.architectures.sizes import WholePatches

__all__ = ["ARCHITECTURES", "WholePatches", "build_model", "logits_of"]
