"""Step 8: put a bundle where a server finds it, and its key where the server gets it.

There is no server here: Triton, or any process that opens a `Session`, is the server.
This room is a place where a keystore meets a model, as `mlguard/cli` is: it runs where
nobody can be asked for a passphrase. Importing it loads no onnxruntime.
"""

from mlguard.serving.key_sources import SOURCES, open_key
from mlguard.serving.triton import Served, write_repository

__all__ = ["SOURCES", "Served", "open_key", "write_repository"]
