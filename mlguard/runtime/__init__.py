"""Step 7: run a bundle with its key, on numpy and onnxruntime, without torch."""

from mlguard.runtime.graphs import Graphs
from mlguard.runtime.images import MAX_PIXELS, SUFFIXES, read_image
from mlguard.runtime.options import Compute
from mlguard.runtime.preprocess import Preprocess
from mlguard.runtime.remote import Endpoint, Remote
from mlguard.runtime.session import Session

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Compute",
    "Endpoint",
    "Graphs",
    "Preprocess",
    "Remote",
    "Session",
    "read_image",
]
