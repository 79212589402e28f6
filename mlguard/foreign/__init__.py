"""Protect ONNX models of any origin: every weight under a key, the same answers.

It needs the onnx package and onnxruntime, but not torch. The answers stay the same bit
for bit.
"""

from mlguard.foreign.about import About, read_about
from mlguard.foreign.bundle import Exported, export_file, model_of
from mlguard.foreign.inputs import settle_inputs
from mlguard.foreign.lift import Lifted, lift_file, lift_model
from mlguard.foreign.read import parse_model, read_file
from mlguard.foreign.scrub import scrub
from mlguard.foreign.take import Uncovered, point_outside

__all__ = [
    "About",
    "Exported",
    "Lifted",
    "Uncovered",
    "export_file",
    "lift_file",
    "lift_model",
    "model_of",
    "parse_model",
    "point_outside",
    "read_about",
    "read_file",
    "scrub",
    "settle_inputs",
]
