"""Step 4: architectures, the weights they start from, and the keyed transform in torch.

Knows nothing of training, files of results or audits.
"""

from mlguard.models.build import ARCHITECTURES, build_model, logits_of
from mlguard.models.condition import NO_KEY, Condition, keyed, output_of
from mlguard.models.feature_maps import feature_channels
from mlguard.models.rewrite import rewrite
from mlguard.models.weights import Normalization, normalization_of

__all__ = [
    "ARCHITECTURES",
    "NO_KEY",
    "Condition",
    "Normalization",
    "build_model",
    "feature_channels",
    "keyed",
    "logits_of",
    "normalization_of",
    "output_of",
    "rewrite",
]
