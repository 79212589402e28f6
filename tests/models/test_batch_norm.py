"""Folded batch norms: the same logits, and no statistics to read keys off."""

import pytest
import torch
from torch import nn

from mlguard.errors import BindingError
from mlguard.models import ARCHITECTURES
from mlguard.models.binding import (
    ChannelScale,
    fold_batch_norms,
    norms_with_statistics,
)
from tests.models.architectures import (
    CLASSES,
    ORDINARY,
    apart,
    architecture,
    enlivened,
    logits,
)

PIXELS = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", ORDINARY)
def test_folded_model_gives_the_same_logits(name: str) -> None:
    model = architecture(name)
    expected = logits(model, PIXELS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold_batch_norms(model)
    assert apart(logits(model, PIXELS), expected) < 1e-9
    names = list(model.state_dict())
    assert not [name for name in names if "running" in name or "num_batches" in name]
    assert any("running_var" in name for name in before)


@pytest.mark.parametrize("name", ORDINARY)
def test_statistics_matter_so_folding_could_have_failed(name: str) -> None:
    """The twin of the test above."""
    model = architecture(name)
    expected = logits(model, PIXELS)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    norm.running_mean += 0.5
    assert apart(logits(fold_batch_norms(model), PIXELS), expected) > 1e-4


@pytest.mark.parametrize("name", ["fcn_small", "fcn_mobilenet_v2"])
def test_weights_load_into_a_new_folded_model(name: str) -> None:
    folded = fold_batch_norms(architecture(name))
    fresh = fold_batch_norms(ARCHITECTURES[name](CLASSES)).double()
    fresh.load_state_dict(folded.state_dict())
    assert apart(logits(fresh, PIXELS), logits(folded, PIXELS)) == 0


def test_a_norm_that_follows_no_convolution_becomes_a_scale() -> None:
    folded = fold_batch_norms(architecture("fcn_small"))
    assert isinstance(folded.classifier[0], ChannelScale)
    assert isinstance(folded.stem[1], nn.Identity)


class Twice(nn.Module):
    """One norm behind two convolutions, and one convolution read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.norm, self.unused = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.alone = nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        one, other = self.one(pixels), self.other(pixels)
        return self.norm(one) + self.norm(other) + self.alone(other)


def test_what_is_shared_is_not_folded_into_either() -> None:
    torch.manual_seed(0)
    model = Twice().double()
    for norm in (model.norm, model.alone):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    expected = logits(model, PIXELS)
    fold_batch_norms(model)
    assert apart(logits(model, PIXELS), expected) < 1e-9
    kinds = {type(m) for m in (model.norm, model.alone, model.unused)}
    assert kinds == {ChannelScale}


def test_a_norm_without_statistics_is_refused() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(BindingError, match="has no running statistics"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), norm))


class Scores(nn.Module):
    """A classifier whose head has a norm of its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.head = norm

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(pixels)).mean((2, 3)))


def test_what_is_no_plain_batch_norm_stays_and_is_named() -> None:
    folded = fold_batch_norms(Scores(nn.BatchNorm1d(4)))
    assert isinstance(folded.second, nn.Identity)
    assert norms_with_statistics(folded) == {"head": "BatchNorm1d"}
    assert norms_with_statistics(fold_batch_norms(Scores(nn.LayerNorm(4)))) == {}


class NormAndActivation(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: a batch norm that does more than normalize."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).relu()


class Standardized(nn.Conv2d):
    """A convolution that does something to its weights."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(features, weight, self.bias)


@torch.no_grad()
def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return enlivened(model)


def test_a_norm_that_carries_its_activation_stays_as_it_is() -> None:
    model = lively(
        nn.Sequential(nn.Conv2d(3, 4, 1), NormAndActivation(4), nn.Conv2d(4, 2, 1))
    )
    expected = logits(model, PIXELS)
    fold_batch_norms(model)
    assert apart(logits(model, PIXELS), expected) < 1e-9
    assert norms_with_statistics(model) == {"1": "NormAndActivation"}


def test_a_norm_behind_an_unknown_convolution_becomes_a_scale() -> None:
    model = lively(
        nn.Sequential(Standardized(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    )
    expected = logits(model, PIXELS)
    fold_batch_norms(model)
    assert apart(logits(model, PIXELS), expected) < 1e-9
    assert isinstance(model[1], ChannelScale)
