"""What is done to feature maps is done from outside, and leaves no trace."""

import copy

import numpy as np
import pytest
import torch
from torchvision.ops import Permute

from mlguard.errors import RecipeError
from mlguard.keys import ModelKey
from mlguard.models import (
    NO_KEY,
    Condition,
    Normalization,
    feature_channels,
    keyed,
    logits_of,
    output_of,
)
from mlguard.models.architectures.fcn_small import FCNSmall
from mlguard.models.conditions import TorchChannels
from mlguard.transforms import ChannelPermutation, TransformSet, derive_channels

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
LAYER, SIZE = "stages.1.branch.2", (32, 32)
NORMALIZATION = Normalization()


def model() -> FCNSmall:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FCNSmall(4).eval()


def images() -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (2, 3, *SIZE), dtype=np.uint8)
    return torch.from_numpy(drawn)


def logits(network: FCNSmall, condition: Condition) -> torch.Tensor:
    with torch.inference_mode():
        return logits_of(output_of(network, images(), condition, NORMALIZATION))


@pytest.mark.parametrize("signs", [False, True])
def test_a_permuted_feature_map_is_undone_by_the_next_layer(signs: bool) -> None:
    """The permutation is where it should be: its inverse in the weights cancels it."""
    network = model()
    expected = logits(network, NO_KEY)
    (one,) = derive_channels(SUBKEYS, {LAYER: 64}, signs=signs)
    reader = network.stages[1].branch[3]  # the convolution after the named layer
    weight = reader.weight.detach()[:, torch.from_numpy(one.order.copy())]
    if signs:
        weight = weight * torch.from_numpy(one.signs.copy()).view(1, -1, 1, 1)
    reader.weight.data = weight
    got = logits(network, keyed(TransformSet(None, (one,))))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (logits(network, NO_KEY) - expected).abs().max() > 1e-2


def test_the_model_is_left_as_it_was() -> None:
    network = model()
    (one,) = derive_channels(SUBKEYS, {LAYER: 64}, signs=True)
    before = logits(network, NO_KEY)
    changed = logits(network, keyed(TransformSet(None, (one,))))
    assert not torch.equal(changed, before)
    assert torch.equal(logits(network, NO_KEY), before)
    hooks = [layer._forward_hooks for layer in network.modules()]
    assert not any(hooks)
    assert set(network.state_dict()) == set(model().state_dict())
    assert torch.equal(logits(copy.deepcopy(network), NO_KEY), before)


def test_a_failing_model_is_left_as_it_was() -> None:
    network = model()
    condition = Condition(features={LAYER: lambda features: features[:, :1]})
    with pytest.raises(RuntimeError):
        logits(network, condition)
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("signs", [False, True])
def test_torch_permutes_as_the_reference_does(signs: bool) -> None:
    (one,) = derive_channels(SUBKEYS, {LAYER: 64}, signs=signs)
    features = np.random.default_rng(0).normal(size=(2, 64, 3, 5)).astype(np.float32)
    got = TorchChannels(one)(torch.from_numpy(features)).numpy()
    np.testing.assert_array_equal(got, one.apply(features))
    np.testing.assert_array_equal(one.inverse().apply(got), features)
    assert (got != features).any()


def test_nothing_of_the_key_is_printed_or_pickled() -> None:
    (one,) = derive_channels(SUBKEYS, {LAYER: 64}, signs=True)
    torch_one = TorchChannels(one)
    assert repr(one) == f"ChannelPermutation({LAYER!r}, channels=64)"
    assert repr(torch_one) == f"TorchChannels({LAYER!r})"
    for secret in (one, torch_one):
        with pytest.raises(TypeError, match="never pickled"):
            copy.deepcopy(secret)


def test_channels_are_counted_without_computing() -> None:
    network = model()
    assert feature_channels(network, [LAYER, "stem"], SIZE) == {LAYER: 64, "stem": 32}
    assert feature_channels(network, [], SIZE) == {}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("stages.9", "the model has no layer 'stages.9'; `mlguard layers"),
        ("stages", "uses the layer 'stages' 0 times for an image, expected once"),
    ],
)
def test_layers_without_one_feature_map_are_refused(layer: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        feature_channels(model(), [layer], SIZE)


def test_a_layer_that_gives_no_feature_map_is_refused() -> None:
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = torch.nn.Flatten()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.flat(pixels)[:, :, None, None]

    with pytest.raises(RecipeError, match="'flat' is not a feature map"):
        feature_channels(Flat(), ["flat"], SIZE)


def test_a_layer_with_its_channels_last_is_refused() -> None:
    last = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, stride=4), Permute([0, 2, 3, 1])
    )
    assert feature_channels(last, ["0"], SIZE) == {"0": 8}
    with pytest.raises(RecipeError, match="output of '1' are not its second axis"):
        feature_channels(last, ["1"], SIZE)


def test_a_model_of_images_of_one_size_has_its_channels_counted() -> None:
    one_size = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.Flatten(), torch.nn.Linear(512, 4)
    )
    assert feature_channels(one_size, ["0"], SIZE) == {"0": 8}


@pytest.mark.parametrize(
    ("order", "signs", "words"),
    [
        ([0, 0], None, "expected a permutation of 0 … 1"),
        ([0, 1], [1.0], "expected 2 signs"),
        ([0, 1], [1.0, 0.5], "expected 2 signs"),
    ],
)
def test_what_is_no_permutation_is_refused(
    order: list[int], signs: list[float] | None, words: str
) -> None:
    given = None if signs is None else np.array(signs, dtype=np.float32)
    with pytest.raises(ValueError, match=words):
        ChannelPermutation("layer", np.array(order), given)
