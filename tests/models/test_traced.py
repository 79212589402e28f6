"""Who reads what in a model, its norms folded or not."""

import pytest
import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.models import build_model, last_layers, norms_after, readers
from mlguard.models.binding import ChannelScale, fold_batch_norms, prepare_stem


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(recipe.Model(name=name), 3).eval()


class Branching(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels if pixels.mean() > 0 else -pixels


def test_a_model_that_cannot_be_seen_through_has_no_known_readers() -> None:
    assert last_layers(Branching()) == ()
    assert norms_after(Branching(), "layer") == ()
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


def convolution(channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 1)


class Shared(nn.Module):
    """A norm that runs twice, and so goes into neither convolution before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = convolution(3), convolution(3)
        self.norm, self.last = nn.BatchNorm2d(4), convolution()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last(self.norm(self.first(pixels))) + self.norm(self.other(pixels))


NORMED = {
    "before the activation": (
        nn.Sequential(convolution(3), nn.BatchNorm2d(4), nn.ReLU(), convolution()),
        ("0", ("3",), nn.Identity),
    ),
    "after the activation": (
        nn.Sequential(convolution(3), nn.ReLU(), nn.BatchNorm2d(4), convolution()),
        ("0", ("3",), ChannelScale),
    ),
    "after a pool": (
        nn.Sequential(
            convolution(3), nn.MaxPool2d(2), nn.BatchNorm2d(4), convolution()
        ),
        ("0", ("3",), ChannelScale),
    ),
    "shared": (Shared(), ("first", ("last",), ChannelScale)),
}


@pytest.mark.parametrize("place", NORMED)
def test_a_folded_norm_of_each_kind_is_seen_through(place: str) -> None:
    model, (layer, expected, kind) = NORMED[place]
    assert readers(model, layer) == expected
    fold_batch_norms(model)
    assert any(isinstance(one, kind) for one in model.modules())
    assert readers(model, layer) == expected
    assert set(expected) <= set(last_layers(model))
    if kind is ChannelScale and place == "shared":
        assert norms_after(model, layer) == ("norm",)


def test_a_layer_that_mixes_channels_is_not_seen_through() -> None:
    """The twin of the test above."""
    model = nn.Sequential(convolution(3), convolution(), convolution())
    assert readers(model, "0") == ("1",)
