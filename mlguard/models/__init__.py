"""Step 4: architectures, the weights they start from, and the keyed transform in torch.

Knows nothing of training, files of results or audits.
"""

from mlguard.models.build import ARCHITECTURES, build_model, logits_of
from mlguard.models.weights import Normalization, normalization_of

__all__ = [
    "ARCHITECTURES",
    "Normalization",
    "build_model",
    "logits_of",
    "normalization_of",
]
