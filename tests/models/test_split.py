"""A public backbone that never learns, and private slices beside it."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from mlguard.errors import RecipeError, WeightsError
from mlguard.models import build_model
from mlguard.models.split import Backbone, Sliced, multiply_adds, share_of
from mlguard.models.split.remembered import half_maps
from mlguard.recipe.sections import Backbone as BackboneName
from tests.splits import MAPS, public_weights, split_recipe


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return public_weights(tmp_path_factory.mktemp("public"))


def built(weights: Path, *overrides: str) -> Sliced:
    torch.manual_seed(0)
    model = build_model(split_recipe(weights, *overrides).model, 6)
    assert isinstance(model, Sliced)
    return model


def pixels(*sides: int) -> torch.Tensor:
    return torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sides", [(32, 32), (33, 47), (64, 40)])
@pytest.mark.parametrize("side", [0, 4])
def test_segmenter_answers_at_the_size_of_any_image(
    weights: Path, sides: tuple[int, int], side: int
) -> None:
    model = built(weights, f"model.side={side}").eval()
    assert model(pixels(*sides)).shape == (2, 6, *sides)


def test_classifier_gives_a_score_for_each_class(weights: Path) -> None:
    spec = split_recipe(weights).model
    spec = spec.model_copy(update={"name": "sliced_classifier"})
    assert build_model(spec, 6).eval()(pixels(33, 47)).shape == (2, 6)


# Maps of strides 4 and 32, by the family.
MAPS_OF = {
    "efficientnet": ("features.2", "features.6"),
    "mnasnet": ("layers.8", "layers.13"),
    "mobilenet_v2": ("features.3", "features.17"),
    "mobilenet_v3_large": ("features.3", "features.16"),
    "mobilenet_v3_small": ("features.1", "features.12"),
    "regnet": ("trunk_output.block1", "trunk_output.block4"),
    "resne": ("layer1", "layer4"),
    "shufflenet": ("maxpool", "conv5"),
    "wide_resnet": ("layer1", "layer4"),
}


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_every_backbone_has_maps_of_rounded_up_sides(
    name: str,
) -> None:
    (maps,) = (found for family, found in MAPS_OF.items() if name.startswith(family))
    backbone = hollow_backbone(name, maps)
    assert [one.stride for one in backbone.maps] == [4, 32]
    given = backbone(torch.empty(1, 3, 65, 97, device="meta"))
    sides = [(-(-65 // s), -(-97 // s)) for s in (4, 32)]
    assert [tuple(one.shape[2:]) for one in given] == sides


def hollow_backbone(name: str, maps: tuple[str, ...]) -> Backbone:
    """One without numbers, which take a while to draw; a RegNet computes with some."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return Backbone(name, maps).to("meta").eval()


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("timm/resnet18", ("layer1", "layer4")),
        ("timm/mobilenetv4_conv_small", ("blocks.0", "blocks.4")),
    ],
)
def test_an_encoder_of_timm_is_one_too(name: str, maps: tuple[str, ...]) -> None:
    pytest.importorskip("timm")
    backbone = Backbone(name, maps)
    assert [one.stride for one in backbone.maps] == [4, 32]
    public = Backbone(name, maps).encoder.state_dict()
    backbone.load_public(dict(public), source="x")
    own = backbone.encoder.state_dict()
    assert all(torch.equal(own[one], public[one]) for one in public)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/no_such_model", "model.backbone: timm .* has no model 'no_such_model'"),
        ("timm/tf_efficientnet_b0", "torch.fx cannot trace timm/tf_efficientnet_b0"),
        ("timm/convnext_atto", r"expected sides divided by its stride, 4, and rounded"),
    ],
)
def test_an_encoder_of_timm_that_does_not_fit_is_refused(name: str, words: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(RecipeError, match=words):
        Backbone(name, ("blocks.0",) if "efficient" in name else ("stages.0",))


def test_without_timm_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RecipeError, match="needs the package timm: pip install timm"):
        Backbone("timm/resnet18", ("layer1",))


def test_maps_that_round_down_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"of \[65, 97\]; expected sides divided by"):
        Backbone("vgg11", ("features.2",))


def test_training_leaves_the_backbone_as_it_was_norms_and_all(weights: Path) -> None:
    model = built(weights).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.private.parameters(), lr=0.1)
    model(pixels(32, 32)).square().mean().backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not {one for one in changed if one.startswith("backbone.")}
    assert not any(one.requires_grad for one in model.backbone.parameters())


def test_a_thawed_backbone_would_change(weights: Path) -> None:
    model = built(weights)
    model.thaw()
    model.train()
    before = copy.deepcopy(model.backbone.state_dict())
    model(pixels(32, 32)).mean().backward()
    after = model.backbone.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(one.grad is not None for one in model.backbone.parameters())


def test_public_weights_are_loaded_to_the_last_tensor(weights: Path) -> None:
    own = built(weights).backbone.encoder.state_dict()
    given = load_file(weights)
    assert own.keys() == given.keys()
    assert all(torch.equal(own[name], given[name]) for name in own)


@pytest.mark.parametrize("change", ["missing", "other shape"])
def test_weights_of_another_encoder_are_refused(weights: Path, change: str) -> None:
    tensors, name = load_file(weights), "features.3.conv.1.0.weight"
    if change == "missing":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:-1]
    word = "no" if change == "missing" else "another"
    with pytest.raises(WeightsError, match=f"{word} tensor {name}"):
        Backbone("mobilenet_v2", MAPS).load_public(tensors, source="x")


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (("features.3", "blocks.6"), "no layer 'blocks.6'; it has features.0"),
        (("features.6", "features.3"), "from fine to coarse"),
        (("features.2", "features.3"), "no two as fine"),
        (("features.3", "classifier"), "gives no feature map"),
    ],
)
def test_maps_that_a_backbone_does_not_have_are_refused(
    maps: tuple[str, ...], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        Backbone("mobilenet_v2", maps)


def test_what_is_remembered_is_what_is_computed(weights: Path) -> None:
    model = built(weights).eval()
    images = pixels(32, 32)
    expected = model(images)
    with model.remembering(10**6) as memory:
        first, second = model(images), model(images.flip(0))
    assert (memory.computed, memory.read) == (2, 2)
    assert torch.equal(first, second.flip(0))
    assert torch.allclose(first, expected, atol=1e-4)
    assert torch.equal(model(images), expected)


def test_mixed_precision_does_not_reach_the_backbone(weights: Path) -> None:
    model = built(weights).eval()
    images = pixels(32, 32)
    expected = half_maps(model.backbone, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = half_maps(model.backbone, images)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("limit", [0, 5000])
def test_a_full_memory_computes_and_says_the_same(weights: Path, limit: int) -> None:
    model = built(weights).eval()
    images = pixels(32, 32)
    with model.remembering(limit) as memory:
        first, second = model(images), model(images)
    assert memory.computed == 4 - limit // 5000  # maps of an image have 4096 bytes
    assert torch.equal(first, second)


def test_a_disk_without_space_is_only_slower(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(weights).eval()

    def full(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with model.remembering(10**6) as memory:
        file = memory._file
        monkeypatch.setattr(
            memory, "_file", SimpleNamespace(seek=file.seek, write=full)
        )
        images = pixels(32, 32)
        assert torch.equal(model(images), model(images))
        monkeypatch.setattr(memory, "_file", file)
    assert (memory.computed, memory.read) == (4, 0)


def test_the_memory_has_no_name_on_the_disk(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = built(weights).eval()
    with model.remembering(10**6):
        model(pixels(32, 32))
        assert list(tmp_path.iterdir()) == []


def test_multiply_adds_are_those_of_the_formula() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1, groups=1),
        torch.nn.Conv2d(8, 8, 3, groups=8),
    )
    expected = 10 * 12 * 8 * 27 + 8 * 10 * 8 * 9
    assert multiply_adds(layers, torch.zeros(1, 3, 10, 12)) == expected


def test_wider_slices_are_a_larger_share(weights: Path) -> None:
    narrow = share_of(built(weights), (64, 64))
    wide = share_of(built(weights, "model.widths=[16, 24]"), (64, 64))
    assert narrow.host == wide.host
    assert 0 < narrow.of_client < wide.of_client < 1
