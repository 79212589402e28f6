"""Permuted layers whose permutation is folded into what reads them change nothing."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.errors import BindingError
from mlguard.models.binding import (
    check_layers,
    fold_batch_norms,
    fold_permutations,
    layers_of,
    prepare_stem,
)
from mlguard.models.conditions import TorchChannels, changed_features
from mlguard.transforms import ChannelPermutation
from tests.models.architectures import ORDINARY, apart, architecture, logits

SIZE = (32, 48)
PIXELS = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)).double()


def change(
    layer: str, channels: int, *, signs: bool = False, seed: int = 0
) -> ChannelPermutation:
    draw = np.random.default_rng(seed)
    flips = draw.choice(np.float32([-1, 1]), channels) if signs else None
    return ChannelPermutation(layer, draw.permutation(channels), flips)


def hooked(model: nn.Module, changes: list[ChannelPermutation]) -> Tensor:
    """The logits of a model whose layers' outputs are permuted as it runs."""
    with changed_features(model, {one.layer: TorchChannels(one) for one in changes}):
        return logits(model, PIXELS)


def apart_layers(model: nn.Module, layers: list[str]) -> list[str]:
    """Those of the layers that can be permuted at once: the last one of each path."""
    chosen: list[str] = []
    for layer in reversed(layers):
        try:
            check_layers(model, [layer, *chosen])
        except BindingError:
            continue
        chosen.append(layer)
    return chosen


def permutable(model: nn.Module) -> list:
    return [facts for facts in layers_of(model, SIZE) if not facts.refusal]


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("tried", [3, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_permutable_layer_can_be_permuted(name: str, tried: int) -> None:
    model = architecture(name)
    expected, found = logits(model, PIXELS), permutable(model)
    assert len(found) >= 8
    for facts in found[:: math.ceil(len(found) / tried)]:
        one = change(facts.name, facts.channels)
        assert apart(hooked(model, [one]), expected) > 1e-6, facts.name
        fold_permutations(model, [one])
        assert apart(hooked(model, [one]), expected) < 1e-9, facts.name
        fold_permutations(model, [one.inverse()])
        assert apart(logits(model, PIXELS), expected) == 0, facts.name


# Of how many layers each is asked whether it fits the others: some, or all of them.
ASKED = [8, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("asked", ASKED)
def test_several_layers_at_once_with_lifted_stem_and_folded_norms(
    name: str, fold: bool, asked: int
) -> None:
    model = architecture(name)
    expected = logits(model, PIXELS)
    prepare_stem(fold_batch_norms(model) if fold else model, 4)
    channels = {facts.name: facts.channels for facts in permutable(model)}
    some = list(channels)[:: math.ceil(len(channels) / asked)]
    free = [change(layer, channels[layer]) for layer in apart_layers(model, some)]
    assert len(free) >= 3
    fold_permutations(model, free)
    assert apart(hooked(model, free), expected) < 1e-9
    assert apart(logits(model, PIXELS), expected) > 1e-3


def test_layers_are_listed_with_their_sizes_and_what_stands_in_the_way() -> None:
    found = {facts.name: facts for facts in layers_of(architecture("fcn_small"), SIZE)}
    assert found["stages.1.branch.2"].refusal == ""
    shape = found["stages.1.branch.2"]
    assert (shape.channels, shape.height, shape.width) == (64, 8, 12)
    assert "residual join" in found["stages.1.branch"].refusal
    assert found["classifier"].refusal == "reaches the model's output"
    assert "branch.4" not in " ".join(found)  # the same output as its container
    assert next(iter(found)) == "stem.0"


@pytest.mark.parametrize(
    ("name", "layer", "refusal"),
    [
        ("fcn_mobilenet_v2", "features.3.conv.0", "depthwise convolution features.3"),
        ("fcn_mobilenet_v2", "features.2", "residual join"),
        ("fcn_resnet50", "backbone.layer1.0.relu", "runs 3 times"),
        ("fcn_resnet50", "backbone.layer1.0", "residual join"),
        ("fcn_resnet50", "classifier.4", "reaches the model's output"),
        ("fcn_resnet50", "aux_classifier.2", "not contribute to the logits"),
        ("deeplabv3_resnet50", "classifier.0.convs.1", "joined with other channels"),
        ("lraspp_mobilenet_v3_large", "classifier.cbr", "squeeze-and-excitation"),
    ],
)
def test_layers_where_channels_meet_are_refused(
    name: str, layer: str, refusal: str
) -> None:
    said = f"layer {layer} cannot be permuted: it .*{refusal}"
    with pytest.raises(BindingError, match=said):
        check_layers(architecture(name), [layer])


def test_a_grouped_convolution_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2))
    with pytest.raises(BindingError, match="the grouped convolution 1"):
        check_layers(model, ["0"])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cnn_small", "stages"),
        ("resnet18_cifar", "layer4"),
        ("mobilenet_v2", "features"),
    ],
)
def test_what_a_classifier_averages_over_all_places_folds_into_its_linear_layer(
    name: str, layer: str
) -> None:
    model = architecture(name)
    expected = logits(model, PIXELS)
    facts = {facts.name: facts for facts in permutable(model)}[layer]
    one = change(layer, facts.channels, signs=True)  # the mean is linear
    fold_permutations(model, [one])
    assert apart(hooked(model, [one]), expected) < 1e-9
    assert apart(logits(model, PIXELS), expected) > 1e-3


class _Mean(nn.Module):
    def __init__(self, dims: tuple[int, ...], *, keepdim: bool) -> None:
        super().__init__()
        self.dims, self.keepdim = dims, keepdim

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(self.dims, keepdim=self.keepdim)


@pytest.mark.parametrize(
    ("between", "signs"),
    [
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten()], True),
        ([nn.AdaptiveMaxPool2d((1, 1)), nn.Flatten()], False),
        ([_Mean((2, 3), keepdim=False), nn.Dropout()], True),
        ([_Mean((-1, -2), keepdim=True), nn.Flatten(), nn.ReLU()], False),
    ],
)
def test_every_way_to_one_place_is_followed(
    between: list[nn.Module], signs: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), *between, nn.Linear(8, 2)).double()
    (facts,) = permutable(model)[:1]
    assert facts.name == "0"
    expected, one = logits(model, PIXELS), change("0", 8, signs=signs)
    fold_permutations(model, [one])
    assert apart(hooked(model, [one]), expected) < 1e-9


@pytest.mark.parametrize(
    ("between", "refusal"),
    [
        (
            [nn.AdaptiveAvgPool2d(2), nn.Flatten()],
            "is flattened together with its places",
        ),
        ([nn.Flatten()], "is flattened together with its places"),
        ([_Mean((2,), keepdim=False)], "goes into mean, which mixes channels"),
        ([], "goes into 1 .Linear., which mixes channels"),
    ],
)
def test_a_linear_layer_that_reads_places_is_refused(
    between: list[nn.Module], refusal: str
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), *between, nn.Linear(8, 2))
    with pytest.raises(BindingError, match=refusal):
        check_layers(model, ["0"])


def test_a_convolution_that_runs_twice_is_refused() -> None:
    again = nn.Conv2d(8, 8, 1)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), again, again)
    with pytest.raises(BindingError, match="1, which runs several times"):
        check_layers(model, ["0"])


def test_a_layer_that_is_not_there_is_refused_with_where_to_look() -> None:
    with pytest.raises(BindingError, match=r"no layer 'stem\.9'") as refusal:
        check_layers(architecture("fcn_small"), ["stem.9"])
    assert "mlguard layers" in refusal.value.hint


def test_two_layers_on_one_path_are_refused() -> None:
    layers = ["stages.0.branch.1", "stages.0.branch.2"]
    with pytest.raises(BindingError, match="go into the same convolution"):
        check_layers(architecture("fcn_small"), layers)


def test_a_permutation_of_another_length_is_refused() -> None:
    one = change("stages.0.branch.2", 31)
    with pytest.raises(BindingError, match="has 32 channels, the permutation is of 31"):
        fold_permutations(architecture("fcn_small"), [one])


def test_a_layer_before_the_stem_is_refused() -> None:
    model = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1))
    with pytest.raises(
        BindingError, match=r"layer 0 cannot .* returns the image itself"
    ):
        check_layers(model, ["0"])
    assert [facts.name for facts in permutable(model)] == ["1"]
