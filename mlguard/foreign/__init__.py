"""Protect ONNX models of any origin: every weight under a key, the same answers.

It needs the onnx package and onnxruntime, but not torch. The answers stay the same bit
for bit.
"""

from mlguard.foreign.about import About, read_about
from mlguard.foreign.bundle import Exported, export_file, model_of
from mlguard.foreign.inputs import keep_needed, settle_inputs
from mlguard.foreign.lift import Lifted, lift_file, lift_model
from mlguard.foreign.names import clear_of, prefix_names
from mlguard.foreign.read import check_one_file, parse_model, read_file
from mlguard.foreign.scrub import scrub, without_functions
from mlguard.foreign.take import Uncovered, point_outside

__all__ = [
    "About",
    "Exported",
    "Lifted",
    "Uncovered",
    "check_one_file",
    "clear_of",
    "export_file",
    "keep_needed",
    "lift_file",
    "lift_model",
    "model_of",
    "parse_model",
    "point_outside",
    "prefix_names",
    "read_about",
    "read_file",
    "scrub",
    "settle_inputs",
    "without_functions",
]
