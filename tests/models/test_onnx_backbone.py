"""A public backbone in an ONNX file, which onnxruntime runs."""

import copy
import re
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from mlguard.errors import MlguardError, RecipeError, RunError, WeightsError
from mlguard.models import build_model
from mlguard.models.split import OnnxBackbone, Sliced, maps_of, multiply_adds, share_of
from mlguard.models.split.remembered import half_maps
from mlguard.recipe import Recipe
from tests.splits import (
    FILE_MAPS,
    file_overrides,
    public_file,
    public_weights,
    split_recipe,
)

Public = tuple[Path, nn.Sequential]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    return public_file(tmp_path_factory.mktemp("public"))


def recipe_of(path: Path, *overrides: str) -> Recipe:
    return split_recipe(Path("none"), *file_overrides(path), *overrides)


def built(path: Path, *overrides: str) -> Sliced:
    torch.manual_seed(0)
    model = build_model(recipe_of(path, *overrides).model, 6)
    assert isinstance(model, Sliced)
    return model


def pixels(*sizes: int) -> torch.Tensor:
    return torch.rand(*sizes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [(1, 3, 32, 32), (3, 3, 33, 47), (2, 3, 64, 40)])
def test_maps_are_the_encoder_s_for_images_of_any_number_and_size(
    public: Public, sizes: tuple[int, ...]
) -> None:
    path, encoder = public
    backbone, given = OnnxBackbone(str(path), FILE_MAPS), pixels(*sizes)
    with torch.inference_mode():
        fine = encoder[:2](given)
        expected = [fine, encoder[2:4](fine)]
    torch.testing.assert_close(backbone(given), expected)
    facts = [(one.name, one.channels, one.stride) for one in backbone.maps]
    assert facts == [(FILE_MAPS[0], 8, 2), (FILE_MAPS[1], 12, 8)]


def test_slices_learn_beside_it_and_copies_share_it(
    public: Public,
) -> None:
    model = built(public[0])
    model(pixels(2, 3, 32, 32)).sum().backward()
    assert all(one.grad is not None for one in model.parameters())
    assert [*model.backbone.parameters()] == []
    host = model.of_host(seed=1)
    assert host.backbone.public is model.backbone.public
    assert copy.deepcopy(model).backbone.public is model.backbone.public
    given = pixels(2, 3, 32, 32)
    same = zip(
        half_maps(host.backbone, given), half_maps(model.backbone, given), strict=True
    )
    assert all(torch.equal(one, other) for one, other in same)


def test_its_multiply_adds_are_counted_as_torch_s(
    public: Public,
) -> None:
    path, encoder = public
    share = share_of(built(path), (64, 48))
    assert share.host == multiply_adds(encoder[:4], pixels(1, 3, 64, 48))
    assert 0 < share.of_client < 1


def test_matrix_products_are_counted_too(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [
            helper.make_node("Transpose", ["image"], ["last"], perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["last", "mixing"], ["mixed"]),
            helper.make_node("Transpose", ["mixed"], ["map"], perm=[0, 3, 1, 2]),
        ],
        {"mixing": (3, 5)},
    )
    model = built(path, 'model.maps=["map"]', "model.widths=[4]")
    assert share_of(model, (8, 6)).host == 8 * 6 * 3 * 5


def test_state_says_which_file_it_was_trained_beside(
    public: Public, tmp_path: Path
) -> None:
    trained = built(public[0]).state_dict()
    built(public[0]).load_state_dict(trained)
    other, _ = public_file(tmp_path, seed=8)
    with pytest.raises(WeightsError, match="that the slices were trained beside"):
        built(other).load_state_dict(trained)


def test_it_cannot_learn(public: Public) -> None:
    with pytest.raises(RunError, match=r"public-7\.onnx is an ONNX file"):
        built(public[0]).thaw()


def test_the_maps_it_could_send_are_listed(public: Public) -> None:
    found = maps_of(recipe_of(public[0]).model)
    assert [(one.name, one.channels, one.stride) for one in found] == [
        ("/0/Conv_output_0", 8, 2),
        (FILE_MAPS[0], 8, 2),
        ("/2/Conv_output_0", 12, 8),
        (FILE_MAPS[1], 12, 8),
        ("5" if "5" in {one.name for one in found} else found[-1].name, 4, 8),
    ]


def test_those_of_torchvision_s_are_listed_as_well(tmp_path: Path) -> None:
    found = maps_of(split_recipe(public_weights(tmp_path)).model)
    facts = {one.name: (one.channels, one.stride) for one in found}
    assert facts["features.2"] == (24, 4)
    assert facts["features.4"] == (32, 8)
    assert "classifier" not in facts


def test_names_of_the_file_do_not_meet_those_of_the_halves(tmp_path: Path) -> None:
    halve = {"strides": [2, 2], "kernel_shape": [1, 1]}
    path = written(
        tmp_path,
        [
            helper.make_node("MaxPool", ["pixels"], ["images"], **halve),
            helper.make_node("Neg", ["images"], ["map"]),
        ],
        image="pixels",
    )
    backbone = OnnxBackbone(str(path), ["map"])
    given = pixels(1, 3, 16, 16)
    assert torch.equal(backbone(given)[0], -given[:, :, ::2, ::2])


def test_half_precision_maps_are_given_in_single(tmp_path: Path) -> None:
    to = {"to": TensorProto.FLOAT16}
    path = written(tmp_path, [helper.make_node("Cast", ["image"], ["map"], **to)])
    (found,) = OnnxBackbone(str(path), ["map"])(pixels(1, 3, 8, 8))
    assert found.dtype == torch.float32


def test_functions_are_taken_in(tmp_path: Path) -> None:
    body = [helper.make_node("Neg", ["x"], ["y"])]
    sets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Neg", ["x"], ["y"], body, sets)
    nodes = [helper.make_node("Neg", ["image"], ["map"], domain="own"), NEG]
    path = written(tmp_path, nodes[:1])
    model = onnx.load(path)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, path)
    given = pixels(1, 3, 8, 8)
    assert torch.equal(OnnxBackbone(str(path), ["map"])(given)[0], -given)


def test_what_only_a_branch_reads_is_taken_along(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["twice", "weight"], [op])
        return helper.make_graph([node], op, [], [onnx.ValueInfoProto(name=op)])

    yes = helper.make_tensor("", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Add", ["image", "image"], ["twice"]),
        helper.make_node("Constant", [], ["yes"], value=yes),
        helper.make_node(
            "If", ["yes"], ["map"], then_branch=branch("Add"), else_branch=branch("Sub")
        ),
        helper.make_node("Neg", ["map"], ["behind"]),
    ]
    path = written(tmp_path, nodes, {"weight": (1, 3, 1, 1), "unused": (2,)})
    backbone, given = OnnxBackbone(str(path), ["map"]), pixels(1, 3, 8, 8)
    assert torch.equal(backbone(given)[0], 2 * given + 1)
    assert [one.name for one in backbone.public.graph.graph.initializer] == ["weight"]


def test_data_that_a_constant_has_elsewhere_is_never_read(tmp_path: Path) -> None:
    value = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
    constant = helper.make_node("Constant", [], ["one"], value=value)
    tensor = constant.attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data.bin")
    path = written(
        tmp_path, [constant, helper.make_node("Add", ["image", "one"], ["map"])]
    )
    (tmp_path / "data.bin").write_bytes(bytes(4))
    with pytest.raises(MlguardError, match="a constant points outside the file"):
        OnnxBackbone(str(path), ["map"])


@pytest.mark.parametrize("name", ["images", "Pixels", "logits"])
def test_maps_that_would_meet_the_halves_own_tensors_are_refused(
    tmp_path: Path, name: str
) -> None:
    path = written(tmp_path, [helper.make_node("Neg", ["image"], [name])])
    with pytest.raises(RecipeError, match=f"'{name}' of .* rename it in the file"):
        OnnxBackbone(str(path), [name])


def test_what_the_onnx_package_refuses_is_refused_before_training(
    tmp_path: Path,
) -> None:
    add = helper.make_node("Add", ["image", "weight"], ["map"])
    path = written(tmp_path, [add], {"weight": (1, 3, 1, 1)})
    model = onnx.load(path)
    model.graph.initializer.append(model.graph.initializer[0])
    onnx.save(model, path)
    with pytest.raises(RecipeError, match="the onnx package refuses"):
        OnnxBackbone(str(path), ["map"])


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [helper.make_node("Neg", ["image"], ["map"])])
    path.write_bytes(path.read_bytes().replace(b"image", b"im\xffge"))
    with pytest.raises(MlguardError, match="has names that are not UTF-8"):
        OnnxBackbone(str(path), ["map"])


def test_no_map_is_listed_that_a_recipe_cannot_name(tmp_path: Path) -> None:
    names = ["a\x1b[31m", "n" * 201, "images", "map"]
    nodes = [helper.make_node("Neg", ["image"], [one]) for one in names]
    path = written(tmp_path, nodes)
    assert [one.name for one in maps_of(recipe_of(path).model)] == ["map"]


def test_maps_before_a_head_of_one_size_are_listed(tmp_path: Path) -> None:
    nodes = [
        DOWN_AND_UP,
        helper.make_node("Flatten", ["map"], ["row"]),
        helper.make_node("Gemm", ["row", "head"], ["classes"]),
        helper.make_node("Softmax", ["classes"], ["chances"]),
    ]
    path = written(tmp_path, nodes, {"head": (3 * 16 * 16, 5)})
    found = maps_of(recipe_of(path).model)
    assert [(one.name, one.stride) for one in found] == [("map", 2)]


def test_a_file_without_any_map_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [helper.make_node("Flatten", ["image"], ["row"])])
    with pytest.raises(RecipeError, match="has no map that a host could send"):
        maps_of(recipe_of(path).model)


def written(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, tuple[int, ...]] | None = None,
    *,
    image: str = "image",
    sizes: tuple[int | str, ...] = (1, 3, 32, 32),
    kind: int = TensorProto.FLOAT,
    more: tuple[str, ...] = (),
) -> Path:
    """Write a graph whose last tensor is its output."""
    inputs = [helper.make_tensor_value_info(image, kind, sizes)]
    inputs += [helper.make_tensor_value_info(one, kind, sizes) for one in more]
    held = [
        helper.make_tensor(
            name, TensorProto.FLOAT, shape, [1.0] * torch.Size(shape).numel()
        )
        for name, shape in (weights or {}).items()
    ]
    last = onnx.ValueInfoProto(name=nodes[-1].output[0])
    graph = helper.make_graph(nodes, "encoder", inputs, [last], held)
    sets = [helper.make_opsetid("", 17)]
    path = folder / "public.onnx"
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return path


NEG = helper.make_node("Neg", ["image"], ["map"])
THIRD = helper.make_node(
    "MaxPool", ["image"], ["map"], kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1
)
DOWN_AND_UP = helper.make_node(
    "MaxPool", ["image"], ["map"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
)
DOWN = helper.make_node(
    "MaxPool", ["image"], ["map"], kernel_shape=[2, 2], strides=[2, 2]
)


@pytest.mark.parametrize(
    ("nodes", "options", "words"),
    [
        (
            [NEG],
            {"sizes": (1, 32, 32, 3)},
            r"takes 'image', FLOAT \(1, 32, 32, 3\); ex",
        ),
        ([NEG], {"sizes": (1, 1, 32, 32)}, r"expected one input, float32 \(N, 3, H, W"),
        ([NEG], {"kind": TensorProto.UINT8}, "takes 'image', UINT8"),
        ([NEG], {"more": ("depth",)}, "takes 'image', .*, 'depth', "),
        ([THIRD], {}, "has 86 rows for 256 pixels, expected a stride that is"),
        ([DOWN], {}, r"expected sides divided by its stride, 2, and rounded up"),
        (
            [helper.make_node("Shape", ["image"], ["map"])],
            {},
            r"'map' of .* is a tensor\(int64\), not a map",
        ),
        (
            [helper.make_node("ReduceMean", ["image"], ["map"], axes=[2, 3])],
            {},
            "gives no feature map",
        ),
        (
            [helper.make_node("Add", ["image", "position"], ["map"])],
            {"weights": {"position": (1, 3, 32, 32)}},
            r"does not run on 2 images of \[256, 256\] pixels, and a backbone must",
        ),
        ([helper.make_node("Nonsense", ["image"], ["map"])], {}, "cannot be loaded"),
        ([NEG, NEG], {}, "cannot be loaded"),
        (
            [helper.make_node("Transpose", ["image"], ["map"], perm=[1, 0, 2, 3])],
            {},
            "'map' of .* gives no feature map",
        ),
        (
            [
                helper.make_node("Shape", ["image"], ["none"], start=0, end=0),
                helper.make_node("Gather", ["image", "none"], ["map"], axis=1),
            ],
            {},
            "'map' of .* gives no feature map",
        ),
        (
            [helper.make_node("Concat", ["image", "image"], ["map"], axis=0)],
            {},
            "'map' of .* gives no feature map",
        ),
        (
            [
                helper.make_node("Constant", [], ["huge"], value_float=1e6),
                helper.make_node("Mul", ["image", "huge"], ["map"]),
            ],
            {},
            "'map' of .* has numbers that are not finite in half precision",
        ),
        (
            [helper.make_node("RandomNormalLike", ["image"], ["map"])],
            {},
            "'map' of .* differs for the same image, beside another and alone",
        ),
        (
            [
                helper.make_node("ReduceMax", ["image"], ["most"], axes=[0]),
                helper.make_node("Add", ["image", "most"], ["map"]),
            ],
            {},
            "'map' of .* differs for the same image, beside another and alone",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, nodes: list[onnx.NodeProto], options: dict, words: str
) -> None:
    path = written(tmp_path, nodes, **options)
    with pytest.raises(RecipeError, match=words):
        OnnxBackbone(str(path), ["map"])


def test_a_tensor_that_is_not_there_is_refused_with_some_that_are(
    public: Public,
) -> None:
    words = f"no tensor 'layer1'; its last ones are .*{re.escape(FILE_MAPS[1])}"
    with pytest.raises(RecipeError, match=words) as refusal:
        OnnxBackbone(str(public[0]), ["layer1"])
    assert "mlguard layers" in refusal.value.hint


def test_weights_in_other_files_are_refused(public: Public, tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    onnx.save(onnx.load(public[0]), path, save_as_external_data=True, size_threshold=0)
    with pytest.raises(MlguardError, match="has its weights in other files") as refusal:
        OnnxBackbone(str(path), FILE_MAPS)
    assert "onnx.save(onnx.load(FILE), NEW)" in refusal.value.hint


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04model", b"\x00" * 64])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "public.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MlguardError, match=r"cannot read model|is not an ONNX file"):
        OnnxBackbone(str(path), ["map"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.weights=a.safetensors", "expected none, for those of .* are in the"),
        ('model.maps=["a\\u0007"]', "control characters"),
        ("model.backbone=public.pt", "expected FILE.onnx, timm/NAME, or one of"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(
    public: Public, override: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe_of(public[0], override)


def test_a_file_needs_the_mean_and_std_of_its_training(
    public: Public,
) -> None:
    spec = recipe_of(public[0]).model.model_dump() | {"mean": None, "std": None}
    with pytest.raises(ValueError, match="needs the mean and std of its training"):
        type(recipe_of(public[0]).model)(**spec)
