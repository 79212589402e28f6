"""Small bundles of format 2 for tests: a convolution, its weights outside the graph."""

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, load_model_from_string
from onnx import numpy_helper as numpy_in_onnx

from mlguard.bundle import (
    BackboneFacts,
    BackboneMap,
    Bundle2,
    Facts2,
    FileOwner,
    ImageFacts,
    Model2,
    Origin,
    ResizeFacts,
    SealFacts2,
    TaskFacts,
    Tensor2,
    TransformFacts,
    bundle2_bytes,
    bundle2_of,
)
from mlguard.bundle.preprocess_graph import build_preprocess_graph, empty_slot
from mlguard.sealing import PlainTensor
from tests.bundles import (
    CLASSES,
    IR_VERSION,
    KEY,
    OPSET,
    PROTECTION_ID,
    convolution,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 1.0)
FREE = ["N", 3, "H", "W"]
SUBKEYS = KEY.for_model(PROTECTION_ID)
PIXELS = Tensor2(name="pixels", datatype="FP32", shape=(-1, 3, -1, -1))
LOGITS = Tensor2(name="logits", datatype="FP32", shape=(-1, CLASSES, -1, -1))
ORIGIN = Origin(recipe_sha256="ab" * 32, data_fingerprint="cd", versions={"onnx": "1"})


def image_facts(**changes: object) -> ImageFacts:
    """An RGB image that is normalized, and not transformed."""
    fields = {"input": "pixels", "mean": MEAN, "std": STD, "size": (64, 64)}
    return ImageFacts(**(fields | changes))


def shuffled(block_size: int = 4, methods: tuple[str, ...] = ("shf",)) -> ImageFacts:
    """An RGB image that a key transforms."""
    return image_facts(
        transform=TransformFacts(methods=methods, block_size=block_size),
        resize=ResizeFacts(rule="pad", multiple=block_size),
    )


def task_facts(**changes: object) -> TaskFacts:
    """A segmentation."""
    fields = {
        "name": "segmentation",
        "output": "logits",
        "class_names": tuple(f"class {number}" for number in range(CLASSES)),
        "ignore_index": 255,
    }
    return TaskFacts(**(fields | changes))


def facts2(**changes: object) -> Facts2:
    """What the manifest of a small bundle says."""
    fields = {
        "inputs": (PIXELS,),
        "outputs": (LOGITS,),
        "opsets": {"": OPSET},
        "image": image_facts(),
        "task": task_facts(),
        "licence": "Täglich nur einmal.\nNo warranty.",
    }
    return Facts2(**(fields | changes))


def outside(name: str, array: np.ndarray, kind: int | None = None) -> tuple:
    """A tensor without data for the graph, and the data."""
    given = kind or helper.np_dtype_to_tensor_dtype(array.dtype)
    slot = empty_slot(name, given, array.shape)
    return slot, PlainTensor(name, given, array.shape, np.ascontiguousarray(array))


def graph_of(
    nodes: Sequence[NodeProto],
    inputs: Sequence,
    outputs: Sequence,
    initializers: Sequence,
    *,
    opset: int = OPSET,
) -> bytes:
    """An ONNX file."""
    graph = helper.make_graph(nodes, "model", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def convolution_graph() -> tuple[bytes, list[PlainTensor]]:
    """A 3 × 3 convolution and a bias, their tensors outside."""
    weight, data = outside("w", convolution())
    shift, shift_data = outside("b", np.zeros(CLASSES, np.float32))
    node = helper.make_node("Conv", ["pixels", "w", "b"], ["logits"], pads=[1] * 4)
    graph = graph_of(
        [node],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, FREE)],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["N", 4, "H", "W"]
            )
        ],
        [weight, shift, numpy_in_onnx.from_array(np.zeros(1, np.float32), "unused")],
    )
    return graph, [data, shift_data]


def model2(**changes: object) -> Model2:
    """What goes into a small bundle; `changes` replace fields of its facts."""
    given = facts2(**changes)
    graph, tensors = convolution_graph()
    spec = None if given.image is None else given.image.transform
    preprocess = None
    if spec is not None:
        preprocess = build_preprocess_graph(
            spec.methods,
            spec.block_size,
            mean=given.image.mean,
            std=given.image.std,
            opset=OPSET,
            ir_version=IR_VERSION,
        ).SerializeToString()
    return Model2(given, graph, tensors, preprocess=preprocess, origin=ORIGIN)


def small2_bytes(*, seal: SealFacts2 | None = None, **changes: object) -> bytes:
    """The bytes of a small bundle under KEY."""
    owner = FileOwner.of(SUBKEYS)
    return bundle2_bytes(model2(**changes), owner, name="small.mlgb", seal=seal)


def small2(*, seal: SealFacts2 | None = None, **changes: object) -> Bundle2:
    """A small bundle under KEY."""
    return bundle2_of(small2_bytes(seal=seal, **changes), name="small.mlgb")


def half2_bytes() -> bytes:
    """The bytes of a private half under KEY, which leaves its backbone's map unused."""
    graph, tensors = convolution_graph()
    model = load_model_from_string(graph)
    model.graph.input.append(
        helper.make_tensor_value_info(
            "features.2", TensorProto.FLOAT16, ["N", 24, "h", "w"]
        )
    )
    one = BackboneMap(name="features.2", channels=24, stride=4, probe=(0.5,) * 8)
    backbone = BackboneFacts(
        architecture="mobilenet_v2",
        weights="public.safetensors",
        tensors="ab" * 32,
        sha256="cd" * 32,
        maps=(one,),
    )
    given = Tensor2(name="features.2", datatype="FP16", shape=(-1, 24, -1, -1))
    facts = facts2(inputs=(PIXELS, given), backbone=backbone)
    made = Model2(facts, model.SerializeToString(), tensors, origin=ORIGIN)
    return bundle2_bytes(made, FileOwner.of(SUBKEYS), name="half.mlgb")
