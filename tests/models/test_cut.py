"""A model cut where a key acts gives what the whole model gives, and computes less."""

import pytest
import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.keys import ModelKey
from mlguard.models import (
    NO_KEY,
    Condition,
    Cut,
    Normalization,
    SharedRuns,
    build_model,
    feature_channels,
    keyed,
    logits_of,
    output_of,
)
from mlguard.models.cut import choose
from mlguard.models.fcn_mobilenet_v2 import FCNMobileNetV2
from mlguard.models.graph import norms_after, readers
from mlguard.models.stem import prepare_stem
from mlguard.transforms import TransformSet, derive_channels
from tests.models.architectures import enlivened

LAYERS = {
    "fcn_small": ["stages.1.branch.2"],
    "fcn_mobilenet_v2": ["features.3.conv.1", "features.13"],
    "fcn_resnet50": ["backbone.layer4.0.bn1"],
    "deeplabv3_mobilenet_v3_large": ["backbone.13"],
    "lraspp_mobilenet_v3_large": ["backbone.13"],
}
MIDDLE = Normalization()


def reverse(features: Tensor) -> Tensor:
    return features.flip(1)


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(recipe.Model(name=name), 3).eval()


def images_of(number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    shape = (number, 3, 64, 64)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def pixels_of(images: Tensor) -> Tensor:
    pixels = MIDDLE(images.float() / 255)
    return pixels.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_both_parts_together_are_the_model(name: str) -> None:
    model, layers, images = model_of(name), LAYERS[name], images_of()
    cut = Cut.of(model, layers)
    assert cut is not None
    kept = cut.before(pixels_of(images))
    changed = {layer: reverse for layer in layers}
    for features in (changed, {}, {layers[-1]: reverse}, changed):
        whole = output_of(model, images, Condition(features=features), MIDDLE)
        assert torch.equal(logits_of(cut.after(kept, features)), logits_of(whole)), (
            features
        )


@torch.inference_mode()
def test_a_change_is_seen_in_the_output() -> None:
    """The twin: the test above would also pass if nothing were changed."""
    model = model_of("fcn_small")
    changed = Condition(features={"stages.1.branch.2": reverse})
    outputs = [output_of(model, images_of(), one, MIDDLE) for one in (NO_KEY, changed)]
    assert not torch.equal(*outputs)


@torch.inference_mode()
def test_some_of_the_images_are_chosen_from_what_was_kept() -> None:
    model = model_of("fcn_small")
    cut = Cut.of(model, LAYERS["fcn_small"])
    images = images_of(4)
    rows = torch.tensor([2, 0, 0])
    some = cut.after(choose(cut.before(pixels_of(images)), rows), {})
    whole = output_of(model, images[rows], NO_KEY, MIDDLE)
    assert torch.allclose(some, whole, atol=1e-5)


@torch.inference_mode()
def test_conditions_share_the_beginning_of_a_model() -> None:
    model = model_of("fcn_mobilenet_v2")
    runs: list[str] = []
    for name in ("features.2", "features.14"):
        layer = model.get_submodule(name)
        layer = next(one for one in layer.modules() if isinstance(one, nn.Conv2d))
        layer.register_forward_hook(lambda *_, name=name: runs.append(name))
    conditions = [Condition(features={"features.13": reverse}) for _ in range(5)]
    shared = SharedRuns(model, conditions, MIDDLE)
    for images in (images_of(1), images_of(2)):
        for condition in conditions:
            shared(images, condition)
    assert runs.count("features.2") == 2
    assert runs.count("features.14") == 10


@torch.inference_mode()
def test_conditions_that_change_images_are_run_whole() -> None:
    model, images = model_of("fcn_small"), images_of()
    conditions = [
        NO_KEY,
        Condition(image=lambda images: images.flip(-1).float() / 255),
        Condition(features={"stages.1.branch.2": reverse}),
    ]
    shared = SharedRuns(model, conditions, MIDDLE)
    for condition in (*conditions, conditions[0]):
        alone = output_of(model, images, condition, MIDDLE)
        assert torch.equal(shared(images, condition), alone)


class Branching(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels if pixels.mean() > 0 else -pixels


def test_a_model_that_cannot_be_seen_through_is_not_cut() -> None:
    assert Cut.of(Branching(), ["layer"]) is None
    assert readers(Branching(), "") == ()


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("fcn_mobilenet_v2", "", ("features.0.0",)),
        ("fcn_mobilenet_v2", "features.13", ("scores.2.0", "features.14.conv.0.0")),
        ("fcn_mobilenet_v2", "features.3.conv.0", ("features.3.conv.2",)),
        ("fcn_small", "classifier.1", ("classifier.2",)),
        ("fcn_small", "classifier.2", ()),
        ("fcn_resnet50", "backbone.layer4.0.bn1", ("backbone.layer4.0.conv2",)),
    ],
)
def test_who_reads_a_layer(name: str, layer: str, expected: tuple[str, ...]) -> None:
    assert readers(model_of(name), layer) == expected


@pytest.mark.parametrize("block_size", [2, 4])
def test_a_lifted_stem_reads_the_images(block_size: int) -> None:
    model = prepare_stem(model_of("fcn_mobilenet_v2"), block_size)
    assert readers(model, "") == ("features.0.0",)
    assert norms_after(model, "features.0.0") == ("features.0.1",)


def test_layers_that_hold_one_another_are_all_changed() -> None:
    """A block and the activation in it: a node for the block would hide the other."""
    model = enlivened(FCNMobileNetV2(4)).float()
    layers = ("features.2.conv.1", "features.3.conv.1", "features.3", "features.6")
    sizes = feature_channels(model, layers, (32, 32))
    subkeys = ModelKey(bytes(range(32))).for_model(bytes(16))
    condition = keyed(TransformSet(None, derive_channels(subkeys, sizes, signs=False)))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = logits_of(output_of(model, images, condition, Normalization()))
        runs = SharedRuns(model, [NO_KEY, condition], Normalization())
        got = logits_of(runs(images, condition))
    torch.testing.assert_close(
        got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )
    assert runs._cut is not None, "or nothing was shared"
    without = logits_of(runs(images, NO_KEY))
    assert (got - without).abs().max() > 0.1 * expected.abs().max()


def test_two_layers_of_one_output_are_not_cut() -> None:
    model = FCNMobileNetV2(4).eval()
    assert Cut.of(model, ("features.1.conv.0", "features.1.conv.0.2")) is None
    assert Cut.of(model, ("features.1.conv.0",)) is not None
