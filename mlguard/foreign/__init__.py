"""ONNX models that others made: every weight under a key, bit for bit the same answers.

Needs the onnx package and onnxruntime, never torch.
"""

from mlguard.foreign.about import About, read_about
from mlguard.foreign.bundle import Exported, export_file, model_of
from mlguard.foreign.lift import Lifted, lift_file, lift_model
from mlguard.foreign.scrub import scrub
from mlguard.foreign.take import Uncovered

__all__ = [
    "About",
    "Exported",
    "Lifted",
    "Uncovered",
    "export_file",
    "lift_file",
    "lift_model",
    "model_of",
    "read_about",
    "scrub",
]
