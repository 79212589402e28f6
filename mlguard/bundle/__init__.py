"""Step 6: the bundle, the file that ships: a model as ONNX graphs, without its key.

The room needs no torch, and onnx only in `preprocess_graph` and `signature`, which only
an export uses. docs/spec/bundle-v1.md and docs/spec/bundle-v2.md specify the formats.
"""

from mlguard.bundle.about import backbone_of, image_of, task_of
from mlguard.bundle.backbone import BackboneFacts, BackboneMap
from mlguard.bundle.bundle import Bundle, make_bundle, write_bundle
from mlguard.bundle.bundle2 import Bundle2, FileSecrets, Graph, Unlocked, bundle2_of
from mlguard.bundle.describe import describe
from mlguard.bundle.manifest import (
    AuditHeadline,
    Facts,
    FeatureMapFacts,
    Manifest,
    NormalizationFacts,
    Provenance,
    TransformFacts,
)
from mlguard.bundle.manifest2 import (
    Facts2,
    ImageFacts,
    Manifest2,
    PrecisionFacts,
    ResizeFacts,
    SealFacts2,
    TaskFacts,
    Tensor2,
    Uncovered,
)
from mlguard.bundle.proofs import check_key, selftest_digest, selftest_image
from mlguard.bundle.read import Glimpse, glimpse_bundle, read_bundle
from mlguard.bundle.write2 import (
    FileOwner,
    Model2,
    Origin,
    WriteBeside,
    bundle2_bytes,
    write_bundle2,
)

__all__ = [
    "AuditHeadline",
    "BackboneFacts",
    "BackboneMap",
    "Bundle",
    "Bundle2",
    "Facts",
    "Facts2",
    "FeatureMapFacts",
    "FileOwner",
    "FileSecrets",
    "Glimpse",
    "Graph",
    "ImageFacts",
    "Manifest",
    "Manifest2",
    "Model2",
    "NormalizationFacts",
    "Origin",
    "PrecisionFacts",
    "Provenance",
    "ResizeFacts",
    "SealFacts2",
    "TaskFacts",
    "Tensor2",
    "TransformFacts",
    "Uncovered",
    "Unlocked",
    "WriteBeside",
    "backbone_of",
    "bundle2_bytes",
    "bundle2_of",
    "check_key",
    "describe",
    "glimpse_bundle",
    "image_of",
    "make_bundle",
    "read_bundle",
    "selftest_digest",
    "selftest_image",
    "task_of",
    "write_bundle",
    "write_bundle2",
]
