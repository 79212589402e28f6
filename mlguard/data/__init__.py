"""Step 3: labelled images, from files or generated, as tensors of one size.

This room knows nothing of keys: what it gives is plain, and the key's transform comes
after it. Mean and standard deviation are not here either; they belong to the weights.
The layouts, and everything that is refused, are in docs/data.md.
"""

from mlguard.data.labelled import LabelledSet, Part
from mlguard.data.shapes import SHAPES_CLASS_NAMES
from mlguard.data.splits import name_classes, open_split
from mlguard.data.training import TrainingSet, epoch_positions

__all__ = [
    "SHAPES_CLASS_NAMES",
    "LabelledSet",
    "Part",
    "TrainingSet",
    "epoch_positions",
    "name_classes",
    "open_split",
]
