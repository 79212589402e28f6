"""Step 3: labelled images, from files or generated, as tensors of one size.

This room knows nothing of keys: its images are plain, and the key's transform comes
after it. Nor does it know mean and standard deviation, which belong to the weights.
docs/data.md describes the layouts, and everything that is refused.
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
