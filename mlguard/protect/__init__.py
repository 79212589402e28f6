"""Step 5: train a model that needs the key, score it, and export it to ONNX.

Knows no keystore: it is handed a ModelKey.
"""

from mlguard.protect.binding import Bound, bind_model, bound_recipe, rebind_run
from mlguard.protect.device import new_accelerator, pick_device
from mlguard.protect.evaluate import evaluate, predict_classes
from mlguard.protect.job import Job, Source
from mlguard.protect.loop import train
from mlguard.protect.plain import PlainModel, read_plain
from mlguard.protect.run import Protection, Run, read_run

__all__ = [
    "Bound",
    "Job",
    "PlainModel",
    "Protection",
    "Run",
    "Source",
    "bind_model",
    "bound_recipe",
    "evaluate",
    "new_accelerator",
    "pick_device",
    "predict_classes",
    "read_plain",
    "read_run",
    "rebind_run",
    "train",
]
