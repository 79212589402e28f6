"""Step 5: train a model that needs the key, score it, and export it to ONNX.

run_folder/  what training or binding leaves behind
training/    the job, its loop, and what the loop is made of
binding/     a trained model bound to a key without training
export/      a finished run as a bundle
modules/     any other torch module, or a .pt2 file, as a bundle

The room knows no keystore: it is handed a ModelKey.
"""

from mlguard.models.binding import fold_permutations, layers_of
from mlguard.protect.binding import Bound, bind_model, bound_recipe, rebind_run
from mlguard.protect.device import new_accelerator, pick_device
from mlguard.protect.evaluate import evaluate, predict_classes
from mlguard.protect.modules import (
    Answer,
    BoundModule,
    Pixels,
    bind,
    bind_program,
    channel_permutations,
    permuted,
)
from mlguard.protect.run_folder import Protection, Run, read_plain, read_run
from mlguard.protect.training import DataFolder, Job, Training, named_recipe, train

__all__ = [
    "Answer",
    "Bound",
    "BoundModule",
    "DataFolder",
    "Job",
    "Pixels",
    "Protection",
    "Run",
    "Training",
    "bind",
    "bind_model",
    "bind_program",
    "bound_recipe",
    "channel_permutations",
    "evaluate",
    "fold_permutations",
    "layers_of",
    "named_recipe",
    "new_accelerator",
    "permuted",
    "pick_device",
    "predict_classes",
    "read_plain",
    "read_run",
    "rebind_run",
    "train",
]
