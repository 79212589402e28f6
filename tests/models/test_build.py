"""Every architecture a recipe can name, and the weights it may start from."""

import pickle
import urllib.error
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models as torchvision_models

from mlguard import recipe
from mlguard.errors import WeightsError
from mlguard.models import (
    ARCHITECTURES,
    Normalization,
    build_model,
    logits_of,
    normalization_of,
)
from mlguard.models.architectures.setr_vit_b_16 import SETRViTB16
from mlguard.recipe.sections import SLICED

HALF = (0.5, 0.5, 0.5)


HALVES = {  # what a model in two halves needs besides its name
    "backbone": "mobilenet_v2",
    "maps": ("features.3", "features.17"),
    "widths": (8, 12),
}


def spec(name: str = "fcn_mobilenet_v2", **fields: object) -> recipe.Model:
    halves = HALVES if name in SLICED else {}
    return recipe.Model.model_validate({"name": name} | halves | fields)


def small_setr(classes: int) -> SETRViTB16:
    return SETRViTB16(classes, depth=2, channels=32, heads=2)


def encoder_file(path: Path, *, like: str = "fcn_mobilenet_v2") -> Path:
    """Weights of an encoder, all 0.25, under torchvision's names."""
    model = ARCHITECTURES[like](2)
    weights = {
        name: torch.full_like(value, 0.25)
        for name, value in model.state_dict().items()
        if name.startswith("features.") and value.is_floating_point()
    }
    save_file(weights, path)
    return path


def test_a_recipe_can_name_every_architecture_and_no_other() -> None:
    named = get_args(recipe.Model.model_fields["name"].annotation)
    assert set(named) == set(ARCHITECTURES) | set(SLICED)
    assert set(recipe.CLASSIFIERS) < set(named)


SEGMENTING = [n for n in ARCHITECTURES if n not in recipe.CLASSIFIERS]


@pytest.mark.parametrize("name", recipe.CLASSIFIERS)
@torch.inference_mode()
def test_every_classifier_gives_logits_for_every_image(name: str) -> None:
    model = build_model(spec(name), 300).eval()
    for size in ((32, 32), (40, 56)):
        logits = logits_of(model(torch.zeros(2, 3, *size)))
        assert logits.shape == (2, 300)


def test_the_stem_for_small_images_keeps_their_size() -> None:
    model = build_model(spec("resnet18_cifar"), 10)
    features = model.maxpool(
        model.relu(model.bn1(model.conv1(torch.zeros(2, 3, 32, 32))))
    )
    assert features.shape == (2, 64, 32, 32)


def test_a_classifier_starts_from_published_weights_but_for_its_last_layer(
    tmp_path: Path,
) -> None:
    weights = {
        name: torch.full_like(value, 0.25)
        for name, value in ARCHITECTURES["resnet18"](1000).state_dict().items()
        if value.is_floating_point()
    }
    save_file(weights, tmp_path / "w.safetensors")
    start = spec(
        "resnet18", weights=str(tmp_path / "w.safetensors"), mean=HALF, std=HALF
    )
    model = build_model(start, 7)
    assert (model.conv1.weight == 0.25).all()
    assert (model.layer4[1].conv2.weight == 0.25).all()
    assert not (model.fc.weight == 0.25).any()
    assert (build_model(start, 1000).fc.weight == 0.25).all()


@pytest.mark.parametrize("name", [n for n in SEGMENTING if "101" not in n])
@torch.inference_mode()
def test_every_architecture_gives_logits_for_every_pixel(name: str) -> None:
    model = build_model(spec(name), 5).eval()
    logits = logits_of(model(torch.zeros(1, 3, 40, 56)))
    assert logits.shape == (1, 5, 40, 56)


def test_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_model(spec("fcn_small"), 3).parameters())

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_weights_file_fills_the_encoder_and_leaves_the_rest(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "w.safetensors")
    model = build_model(spec(weights=str(path), mean=HALF, std=HALF), 5)
    assert float(model.features[0][0].weight.detach().mean()) == 0.25
    assert float(model.classifier[0].weight.detach().mean()) != 0.25


def test_encoder_weights_of_torchvision_fit_inside_its_segmentation_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = torchvision_models.resnet50(weights=None).state_dict()
    marked = {k: torch.full_like(v, 1) for k, v in plain.items()}
    monkeypatch.setattr(
        torchvision_models.ResNet50_Weights, "get_state_dict", lambda *_, **__: marked
    )
    weights = "ResNet50_Weights.IMAGENET1K_V2"
    model = build_model(spec("fcn_resnet50", weights=weights), 5)
    assert float(model.backbone.conv1.weight.detach().mean()) == 1.0
    assert float(model.classifier[0].weight.detach().mean()) != 1.0


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("fcn_convnext_tiny", "ConvNeXt_Tiny_Weights.IMAGENET1K_V1"),
        ("upernet_swin_t", "Swin_T_Weights.IMAGENET1K_V1"),
        ("setr_vit_b_16", "ViT_B_16_Weights.IMAGENET1K_V1"),
    ],
)
def test_torchvisions_weights_fill_the_whole_encoder(
    monkeypatch: pytest.MonkeyPatch, name: str, weights: str
) -> None:
    constructor = name.partition("_")[2]
    tensors = torchvision_models.get_model(constructor, weights=None).state_dict()
    marked = {k: torch.full_like(v, 1) for k, v in tensors.items()}
    enum = type(torchvision_models.get_weight(weights))
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: marked)
    model = build_model(spec(name, weights=weights), 5)
    encoder = {
        k: v
        for k, v in model.named_parameters()
        if k.startswith(("features.", "backbone."))
    }
    assert len(encoder) > 100
    assert [k for k, v in encoder.items() if not bool((v == 1).all())] == []
    decoder = dict(model.decoder.named_parameters())
    assert any(not bool((value == 1).all()) for value in decoder.values())


def test_old_names_and_another_size_of_a_vision_transformer_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "setr_vit_b_16", small_setr)
    tensors = {
        name.removeprefix("backbone.")
        .replace(".mlp.0.", ".mlp.linear_1.")
        .replace(".mlp.3.", ".mlp.linear_2."): torch.full_like(value, 0.25)
        for name, value in small_setr(5).state_dict().items()
        if name.startswith("backbone.")
    }
    tensors["encoder.pos_embedding"] = torch.full((1, 1 + 24 * 24, 32), 0.25)
    path = tmp_path / "w.safetensors"
    save_file(tensors, path)
    given = spec("setr_vit_b_16", weights=str(path), mean=HALF, std=HALF)
    encoder = build_model(given, 5).backbone.state_dict()
    assert len(encoder) == len(tensors)
    for name, value in encoder.items():
        torch.testing.assert_close(value, torch.full_like(value, 0.25), msg=name)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"only 0 of \d+ tensors fit fcn_small"):
        build_model(spec("fcn_small", weights=str(path), mean=HALF, std=HALF), 5)


def test_weights_of_a_deeper_network_are_refused(tmp_path: Path) -> None:
    """As ResNet-101's for ResNet-50: the same names and shapes, and more of them."""
    tensors = load_file(encoder_file(tmp_path / "w.safetensors"))
    deeper = {
        name.replace("features.17.", f"features.{block}."): value.clone()
        for block in range(19, 24)
        for name, value in tensors.items()
        if name.startswith("features.17.")
    }
    assert deeper
    save_file(tensors | deeper, tmp_path / "deeper.safetensors")
    given = spec(weights=str(tmp_path / "deeper.safetensors"), mean=HALF, std=HALF)
    with pytest.raises(WeightsError, match=r"only \d+ of \d+ tensors fit"):
        build_model(given, 5)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"PK\x03\x04 pickled zip"])
def test_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights .*w\.safetensors: "):
        build_model(spec(weights=str(path), mean=HALF, std=HALF), 5)


def test_missing_file_is_refused_with_what_to_do() -> None:
    with pytest.raises(WeightsError, match="no such file") as refusal:
        build_model(spec(weights="no.safetensors", mean=HALF, std=HALF), 5)
    assert "model.weights=none" in refusal.value.hint


def test_unknown_weights_name_is_refused() -> None:
    with pytest.raises(WeightsError, match="not have weights of that name"):
        build_model(spec(weights="ResNet50_Weights.NOPE"), 5)


@pytest.mark.parametrize(
    "name",
    [
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
        "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
        "Raft_Large_Weights.C_T_V1",
    ],
)
def test_weights_of_another_task_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="they are for another task") as refusal:
        normalization_of(spec(weights=name))
    assert "ResNet50_Weights" in refusal.value.hint


@pytest.mark.parametrize("damage", [pickle.UnpicklingError, EOFError])
def test_damaged_weights_in_torchs_cache_are_refused(
    monkeypatch: pytest.MonkeyPatch, damage: type[Exception]
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise damage("damaged")

    enum = torchvision_models.MobileNet_V2_Weights
    monkeypatch.setattr(enum, "get_state_dict", damaged)
    with pytest.raises(WeightsError, match="damaged"):
        build_model(spec(weights="MobileNet_V2_Weights.IMAGENET1K_V1"), 5)


def test_weights_that_cannot_be_fetched_say_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(WeightsError, match="cannot be fetched from https") as refusal:
        build_model(spec(weights="MobileNet_V2_Weights.IMAGENET1K_V1"), 5)
    assert str(tmp_path / "hub" / "checkpoints" / "mobilenet_v2") in refusal.value.hint


def test_pickled_weights_are_never_unpickled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, object] = {}

    def remember(*_: object, **options: object) -> dict[str, torch.Tensor]:
        asked.update(options)
        return ARCHITECTURES["fcn_mobilenet_v2"](5).state_dict()

    enum = torchvision_models.MobileNet_V2_Weights
    monkeypatch.setattr(enum, "get_state_dict", remember)
    build_model(spec(weights="MobileNet_V2_Weights.IMAGENET1K_V1"), 5)
    assert asked == {"check_hash": True, "weights_only": True}


def test_mean_and_std_belong_to_the_weights() -> None:
    assert normalization_of(spec()) == Normalization(HALF, HALF)
    imagenet = normalization_of(spec(weights="ResNet50_Weights.IMAGENET1K_V1"))
    assert imagenet.mean == (0.485, 0.456, 0.406)
    given = normalization_of(spec(weights="x.safetensors", mean=HALF, std=HALF))
    assert given == Normalization(HALF, HALF)


def test_normalization_is_by_channel() -> None:
    images = torch.ones(1, 3, 1, 2)
    normalized = Normalization((0.0, 0.5, 1.0), (1.0, 0.5, 2.0))(images)
    assert normalized[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_logits_of_takes_a_tensor_or_torchvisions_dictionary() -> None:
    logits = nn.Identity()(torch.zeros(1))
    assert logits_of(logits) is logits
    assert logits_of({"out": logits, "aux": torch.ones(1)}) is logits
