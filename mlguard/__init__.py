"""Bind vision models to a secret key, ship them as ONNX bundles, and audit them.

The rooms, in the order the data takes: keys, transforms, data, models, protect,
bundle, runtime, audit. Importing this package loads none of them.
"""

__version__ = "0.1.0"
