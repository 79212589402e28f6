"""Small bundles for tests, built without torch: one convolution after the transform."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mlguard.bundle import (
    Bundle,
    Facts,
    FeatureMapFacts,
    NormalizationFacts,
    Provenance,
    TransformFacts,
    make_bundle,
)
from mlguard.bundle.preprocess_graph import build_preprocess_graph, empty_slot
from mlguard.keys import ModelKey
from mlguard.transforms.channels import order_slot, signs_slot

KEY = ModelKey(bytes(range(32)))
OTHER_KEY = ModelKey(bytes(range(1, 33)))
PROTECTION_ID = bytes(range(16))
CLASSES = 4
OPSET, IR_VERSION = 20, 10


def facts(**changes: object) -> Facts:
    """What the manifest of a small bundle says."""
    fields = {
        "transform": TransformFacts(methods=("shf",), block_size=4),
        "normalization": NormalizationFacts(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 1.0)),
        "class_names": tuple(f"class {number}" for number in range(CLASSES)),
        "ignore_index": 255,
        "image_size": (64, 64),
        "opset": OPSET,
        "licence": "Täglich nur einmal.\nNo warranty.",
        "provenance": Provenance(
            recipe_sha256="ab" * 32,
            data_fingerprint="cd" * 32,
            seed=7,
            versions={"mlguard": "0.1.0"},
        ),
    }
    return Facts.model_validate(fields | changes)


def convolution(classes: int = CLASSES) -> np.ndarray:
    """The weights of the small model, (classes, 3, 3, 3) float32."""
    weights = np.random.default_rng(0).normal(size=(classes, 3, 3, 3))
    return weights.astype(np.float32)


def model_graph() -> bytes:
    """One 3 × 3 convolution as ONNX."""
    node = helper.make_node("Conv", ["pixels", "w"], ["logits"], pads=[1, 1, 1, 1])
    return _graph([node], [numpy_helper.from_array(convolution(), "w")])


def keyed_graph(layer: str) -> bytes:
    """The same convolution after key slots of the three channels that it is fed."""
    order, signs = order_slot(layer), signs_slot(layer)
    nodes = [
        helper.make_node("Gather", ["pixels", order], ["permuted"], axis=1),
        helper.make_node("Mul", ["permuted", signs], ["fed"]),
        helper.make_node("Conv", ["fed", "w"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    slots = [
        empty_slot(order, TensorProto.INT64, [3]),
        empty_slot(signs, TensorProto.FLOAT, [3, 1, 1]),
    ]
    return _graph(nodes, [*slots, numpy_helper.from_array(convolution(), "w")])


def _graph(nodes: list, initializers: list) -> bytes:
    free, classes = ["N", 3, "H", "W"], ["N", CLASSES, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, classes)],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION
    ).SerializeToString()


def preprocess_graph(given: Facts) -> bytes:
    """The keyed transform that the facts name, as ONNX."""
    return build_preprocess_graph(
        given.transform.methods,
        given.transform.block_size,
        mean=given.normalization.mean,
        std=given.normalization.std,
        opset=given.opset,
        ir_version=IR_VERSION,
    ).SerializeToString()


def small_bundle(*, sealed: bool = False, **changes: object) -> Bundle:
    """A whole bundle under KEY; `changes` replace fields of its facts."""
    given = facts(**changes)
    return make_bundle(
        given,
        preprocess=preprocess_graph(given),
        model=model_graph(),
        subkeys=KEY.for_model(PROTECTION_ID),
        name="small.mlgb",
        sealed=sealed,
    )


def keyed_bundle() -> Bundle:
    """A bundle whose model permutes, and signs, the three channels that it is fed."""
    given = facts(
        transform=TransformFacts(methods=(), block_size=1),
        feature_maps=(FeatureMapFacts(layer="fed", channels=3, signs=True),),
    )
    return make_bundle(
        given,
        preprocess=preprocess_graph(given),
        model=keyed_graph("fed"),
        subkeys=KEY.for_model(PROTECTION_ID),
        name="keyed.mlgb",
        sealed=False,
    )


def images(*shape: int) -> np.ndarray:
    """Noise, (N, 3, H, W) uint8."""
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
