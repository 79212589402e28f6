"""preprocess.onnx gives the bits numpy gives, and without the key it does not load."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from mlguard.bundle.preprocess_graph import build_preprocess_graph
from mlguard.engine import onnxruntime
from mlguard.transforms import Transform
from tests.transforms.chains import CHAINS, FITTING, derived, images

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ALL = ("np", "shf", "ffx")


def graph(
    methods: tuple[str, ...], block_size: int, opset: int = 20
) -> onnx.ModelProto:
    return build_preprocess_graph(
        methods, block_size, mean=MEAN, std=STD, opset=opset, ir_version=10
    )


def session(
    model: onnx.ModelProto, slots: dict[str, NDArray]
) -> onnxruntime.InferenceSession:
    """Fill the key slots in memory, as the runtime does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
    if slots:
        options.add_external_initializers(list(slots), values)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def normalized(transform: Transform, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (MEAN, STD))
    return (transform.apply(image) - mean) / std


@pytest.mark.parametrize(("methods", "block_size"), FITTING)
def test_the_graph_gives_the_bits_numpy_gives(
    methods: tuple[str, ...], block_size: int
) -> None:
    transform = derived(methods, block_size)
    image = images(block_size, 2 * block_size)
    filled = session(graph(methods, block_size), transform.slots())
    pixels, values = filled.run(["pixels", "values"], {"images": image})
    np.testing.assert_array_equal(values, transform.values(image).astype(np.float32))
    np.testing.assert_array_equal(pixels, normalized(transform, image))


def test_without_methods_images_are_normalized_and_nothing_more() -> None:
    image, plain = images(8, 16), graph((), 4)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (MEAN, STD))
    pixels, values = session(plain, {}).run(["pixels", "values"], {"images": image})
    np.testing.assert_array_equal(values, image.astype(np.float32))
    np.testing.assert_array_equal(pixels, (values / np.float32(255) - mean) / std)
    assert {node.op_type for node in plain.graph.node} == {"Cast", "Div", "Sub"}


def test_another_key_gives_other_bits() -> None:
    """Also proves that the test above can fail."""
    image, slots = images(8, 8), derived(("shf",), 4).slots()
    slots["shf.order"] = np.arange(48)
    (pixels,) = session(graph(("shf",), 4), slots).run(["pixels"], {"images": image})
    assert (pixels != normalized(derived(("shf",), 4), image)).any()


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 22, 23])
def test_opsets_from_18_on_are_valid(opset: int) -> None:
    model = graph(ALL, 4, opset)
    slots = [i for i in model.graph.initializer if i.external_data]
    for slot in slots:  # onnx's checker wants a file behind external data
        model.graph.initializer.remove(slot)
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(slot.name, slot.data_type, slot.dims)
        )
    assert len(slots) == 4
    onnx.checker.check_model(model, full_check=True)


def test_the_images_may_have_any_number_height_and_width() -> None:
    transform = derived(ALL, 4)
    filled = session(graph(ALL, 4), transform.slots())
    for count, height, width in ((1, 4, 4), (3, 12, 8), (2, 40, 4)):
        image = images(height, width, count=count)
        (values,) = filled.run(["values"], {"images": image})
        np.testing.assert_array_equal(values, transform.values(image))


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_slots_are_named_and_shaped_as_the_transform_fills_them(
    methods: tuple[str, ...],
) -> None:
    declared = {
        slot.name: (
            tuple(slot.dims),
            onnx.helper.tensor_dtype_to_np_dtype(slot.data_type),
        )
        for slot in graph(methods, 4).graph.initializer
        if slot.data_location == onnx.TensorProto.EXTERNAL
    }
    filled = derived(methods, 4).slots()
    assert declared == {name: (v.shape, v.dtype) for name, v in filled.items()}


# Without the key


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_without_the_key_the_graph_does_not_load(
    methods: tuple[str, ...], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fail, match="External data path"):
        session(graph(methods, 4), {})


@pytest.mark.parametrize("missing", ["np.mask", "shf.order", "ffx.mask", "ffx.table"])
def test_with_one_slot_empty_the_graph_does_not_load(missing: str) -> None:
    slots = derived(ALL, 4).slots()
    del slots[missing]
    with pytest.raises(Fail, match=f"initializer: {missing}"):
        session(graph(ALL, 4), slots)


@pytest.mark.parametrize("name", ["np.mask", "shf.order", "ffx.mask", "ffx.table"])
def test_a_slot_filled_with_another_shape_does_not_load(name: str) -> None:
    slots = derived(ALL, 4).slots()
    slots[name] = np.concatenate([slots[name], slots[name]])
    with pytest.raises(Fail, match="dimensions do not match"):
        session(graph(ALL, 4), slots)


def test_a_slot_filled_with_another_type_does_not_load() -> None:
    slots = derived(("np",), 4).slots()
    slots["np.mask"] = slots["np.mask"].astype(np.float32)
    with pytest.raises(Fail, match="data type does not match"):
        session(graph(("np",), 4), slots)


def test_a_slot_the_graph_does_not_have_is_refused() -> None:
    slots = derived(("np", "shf"), 4).slots()
    with pytest.raises(Fail, match="Failed to find existing initializer"):
        session(graph(("np",), 4), slots)


def holds_key_material(file: bytes, transform: Transform) -> list[str]:
    """Name the slots whose bytes are in a file, in any type they could have there."""
    kinds = ("<u1", "<i2", "<i4", "<i8", "<f4")
    return [
        name
        for name, tensor in transform.slots().items()
        if any(tensor.astype(kind).tobytes() in file for kind in kinds)
    ]


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_the_file_holds_no_order_mask_or_table(methods: tuple[str, ...]) -> None:
    file = graph(methods, 4).SerializeToString()
    assert holds_key_material(file, derived(methods, 4)) == []


@pytest.mark.parametrize("methods", CHAINS, ids="+".join)
def test_the_search_for_key_material_would_find_it(methods: tuple[str, ...]) -> None:
    transform, model = derived(methods, 4), graph(methods, 4)
    slots = transform.slots()
    for tensor in model.graph.initializer:
        if tensor.external_data:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(slots[tensor.name], tensor.name)
            )
    found = holds_key_material(model.SerializeToString(), transform)
    assert found == list(slots)


def test_the_file_does_not_depend_on_any_key_and_is_small() -> None:
    file = graph(ALL, 256).SerializeToString()
    assert file == graph(ALL, 256).SerializeToString()
    assert len(file) < 2000


# Refusals


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(ValueError, match="expected opset 18 or later, got 17"):
        graph(("shf",), 4, opset=17)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (("rot13",), "expected methods of shf, np, ffx, orthogonal, got rot13"),
        (("ffx", "np"), "must come before ffx"),
    ],
)
def test_methods_that_do_not_fit_are_refused(methods: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        graph(methods, 4)


def test_normalization_of_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 numbers, one for each channel"):
        build_preprocess_graph(
            ("shf",), 4, mean=(0.5,), std=STD, opset=20, ir_version=10
        )
