"""Step 4: architectures, the weights they start from, and the keyed transform in torch.

Knows nothing of training, files of results or audits.
"""

from mlguard.models.build import ARCHITECTURES, build_model, logits_of
from mlguard.models.condition import NO_KEY, Condition, Output, keyed, output_of
from mlguard.models.cut import Cut, SharedRuns
from mlguard.models.feature_maps import feature_channels
from mlguard.models.graph import last_layers, norms_after, readers
from mlguard.models.rewrite import rewrite
from mlguard.models.weights import Normalization, fitting_weights, normalization_of

__all__ = [
    "ARCHITECTURES",
    "NO_KEY",
    "Condition",
    "Cut",
    "Normalization",
    "Output",
    "SharedRuns",
    "build_model",
    "feature_channels",
    "fitting_weights",
    "keyed",
    "last_layers",
    "logits_of",
    "normalization_of",
    "norms_after",
    "output_of",
    "readers",
    "rewrite",
]
