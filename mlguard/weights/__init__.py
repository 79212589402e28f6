"""Files of weights under a key: .safetensors whose tensors are encrypted in place.

The calls are those of the safetensors library with a key added. numpy is enough; torch
is used only on request. docs/spec/weights-v1.md is the whole format.
"""

from mlguard.weights.describe import describe_file
from mlguard.weights.loading import load_file, raw_tensors, safe_open
from mlguard.weights.write import bind_file, save_file

__all__ = [
    "bind_file",
    "describe_file",
    "load_file",
    "raw_tensors",
    "safe_open",
    "save_file",
]
