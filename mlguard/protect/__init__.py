"""Step 5: train a model that needs the key, score it, and export it to ONNX.

Knows no keystore: it is handed a ModelKey.
"""

from mlguard.protect.evaluate import evaluate, predict_masks
from mlguard.protect.job import Source, protect, train_baseline
from mlguard.protect.loop import new_accelerator, train
from mlguard.protect.run import Protection, Run, read_run

__all__ = [
    "Protection",
    "Run",
    "Source",
    "evaluate",
    "new_accelerator",
    "predict_masks",
    "protect",
    "read_run",
    "train",
    "train_baseline",
]
