"""Step 6: the file that ships. A protected model as ONNX graphs, without its key.

Knows no torch, and no onnx except in `preprocess_graph`, which only the export uses.
docs/spec/bundle-v1.md is the whole format.
"""

from mlguard.bundle.bundle import Bundle, make_bundle, read_bundle, write_bundle
from mlguard.bundle.manifest import (
    AuditHeadline,
    Facts,
    FeatureMapFacts,
    Manifest,
    NormalizationFacts,
    Provenance,
    TransformFacts,
)
from mlguard.bundle.proofs import check_key, selftest_digest, selftest_image

__all__ = [
    "AuditHeadline",
    "Bundle",
    "Facts",
    "FeatureMapFacts",
    "Manifest",
    "NormalizationFacts",
    "Provenance",
    "TransformFacts",
    "check_key",
    "make_bundle",
    "read_bundle",
    "selftest_digest",
    "selftest_image",
    "write_bundle",
]
