"""Step 8: place a bundle for a server, and open its key there.

This is not a server: Triton, or any process that opens a `Session`, is. A keystore
meets a model in this room, as in `mlguard/cli`, but nobody can be asked for a
passphrase. Importing it does not load onnxruntime.
"""

from mlguard.serving.key_sources import SOURCES, open_key
from mlguard.serving.triton import Served, write_repository

__all__ = ["SOURCES", "Served", "open_key", "write_repository"]
