"""Bind vision models to a secret key, ship them as ONNX bundles, and audit them.

The rooms, in the order the data takes: keys, transforms, data, models, protect,
bundle, runtime, audit. Importing this package loads none of them.
"""

import os

__version__ = "0.2.0"

# Whatever part of mlguard is imported, this runs first: onnxruntime reads it once, on
# import, and would otherwise write a device id and a database and call home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
