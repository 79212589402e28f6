"""Step 5: train a model that needs the key, score it, and export it to ONNX.

Knows no keystore: it is handed a ModelKey.
"""

from mlguard.protect.device import new_accelerator, pick_device
from mlguard.protect.evaluate import evaluate, predict_classes
from mlguard.protect.job import Job, Source
from mlguard.protect.loop import train
from mlguard.protect.run import Protection, Run, read_run

__all__ = [
    "Job",
    "Protection",
    "Run",
    "Source",
    "evaluate",
    "new_accelerator",
    "pick_device",
    "predict_classes",
    "read_run",
    "train",
]
