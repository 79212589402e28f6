"""ONNX models that others made: their weights taken out, bit for bit the same answers.

Needs the onnx package and onnxruntime, never torch.
"""

from mlguard.foreign.lift import Lifted, lift_file, lift_model
from mlguard.foreign.scrub import scrub
from mlguard.foreign.take import Uncovered

__all__ = ["Lifted", "Uncovered", "lift_file", "lift_model", "scrub"]
