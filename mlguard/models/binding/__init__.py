"""Rewrite a trained model so that it computes under a key what it did without one."""

from mlguard.models.binding.affine import AffineBlocks, affine_of, check_affine
from mlguard.models.binding.batch_norm import fold_batch_norms, norms_with_statistics
from mlguard.models.binding.channels import check_layers, fold_permutations
from mlguard.models.binding.passports import keyed_norms, leave_norms_to
from mlguard.models.binding.paths import LayerFacts, layers_of
from mlguard.models.binding.pieces import ChannelScale, LiftedStem
from mlguard.models.binding.rewrite import rewrite
from mlguard.models.binding.stem import (
    StemForm,
    absorb,
    find_stem,
    form_of_stem,
    prepare_stem,
    side_of_patch,
)
from mlguard.models.binding.traced import last_layers, norms_after, readers

__all__ = [
    "AffineBlocks",
    "ChannelScale",
    "LayerFacts",
    "LiftedStem",
    "StemForm",
    "absorb",
    "affine_of",
    "check_affine",
    "check_layers",
    "find_stem",
    "fold_batch_norms",
    "fold_permutations",
    "form_of_stem",
    "keyed_norms",
    "last_layers",
    "layers_of",
    "leave_norms_to",
    "norms_after",
    "norms_with_statistics",
    "prepare_stem",
    "readers",
    "rewrite",
    "side_of_patch",
]
