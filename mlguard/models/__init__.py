"""Step 4: architectures, their initial weights, and what a key does in a model.

architectures/  what a recipe's `model.name` can name
conditions/     what is done to images and feature maps when a model runs
binding/        rewriting a trained model so that it computes the same under a key
detectors.py    the network inside an object detector
weights.py      the weights a model starts from, and their mean and std

The room knows nothing of training, result files or audits.
"""

from mlguard.models.architectures import ARCHITECTURES, build_model, logits_of
from mlguard.models.binding import last_layers, norms_after, readers, rewrite
from mlguard.models.conditions import (
    NO_KEY,
    Condition,
    Output,
    feature_channels,
    keyed,
    output_of,
)
from mlguard.models.weights import (
    Normalization,
    fitting_weights,
    load_weights,
    normalization_of,
    read_weights,
)

__all__ = [
    "ARCHITECTURES",
    "NO_KEY",
    "Condition",
    "Normalization",
    "Output",
    "build_model",
    "feature_channels",
    "fitting_weights",
    "keyed",
    "last_layers",
    "load_weights",
    "logits_of",
    "normalization_of",
    "norms_after",
    "output_of",
    "read_weights",
    "readers",
    "rewrite",
]
