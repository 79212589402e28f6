"""A model in two halves: a public backbone for a host, private slices for a client.

backbones.py   public encoders, frozen, and the feature maps they give by name
onnx_backbone.py
               the same from an ONNX file
public_graph.py
               the part of the file that onnxruntime runs for it
slices.py      what is trained, and never lies where the backbone runs
sliced.py      the two together, as one model
listing.py     which maps a backbone could send
remembered.py  features that are computed once and read again while training
work.py        multiply-adds: what a client saves

Nothing of the owner's is ever trained into the backbone, so a thief of the host gets
nothing. The room knows no keys.

Source: Zhang et al. 2024, "No privacy left outside", arXiv:2310.07152, and 2411.09945
    (partition before training).
"""

from mlguard.models.split.backbones import Backbone, MapFacts
from mlguard.models.split.listing import maps_of
from mlguard.models.split.onnx_backbone import OnnxBackbone
from mlguard.models.split.remembered import GIGABYTE, Memory
from mlguard.models.split.sliced import Sliced, cannot_learn, sliced
from mlguard.models.split.slices import Classifier, Segmenter
from mlguard.models.split.work import Share, multiply_adds, share_of

__all__ = [
    "GIGABYTE",
    "Backbone",
    "Classifier",
    "MapFacts",
    "Memory",
    "OnnxBackbone",
    "Segmenter",
    "Share",
    "Sliced",
    "cannot_learn",
    "maps_of",
    "multiply_adds",
    "share_of",
    "sliced",
]
