"""Passports in torch: which layers have one, and what it does to a model."""

import pytest
import torch
from torch import nn

from mlguard.errors import BindingError
from mlguard.keys import ModelKey
from mlguard.models import ARCHITECTURES, NO_KEY, keyed, normalization_of, output_of
from mlguard.models.binding import keyed_norms, leave_norms_to
from mlguard.models.conditions import blended
from mlguard.recipe import Model
from mlguard.transforms import KeyedTransforms, TransformSet

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
NORMALIZATION = normalization_of(Model(name="cnn_small"))
IMAGES = torch.arange(2 * 3 * 16 * 16).remainder(251).view(2, 3, 16, 16).byte()


def cnn_small() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["cnn_small"](3).eval()


def passports(model: nn.Module, subkeys: object = SUBKEYS) -> TransformSet:
    return KeyedTransforms(norms=keyed_norms(model)).derive(subkeys)


def logits(model: nn.Module, condition: object) -> torch.Tensor:
    return output_of(model, IMAGES, condition, NORMALIZATION)


@pytest.mark.parametrize(
    ("name", "number", "first"),
    [
        ("cnn_small", 7, ("stem.0", "stem.1", 27)),
        ("mobilenet_v2", 52, ("features.0.0", "features.0.1", 27)),
        ("resnet18", 20, ("conv1", "bn1", 147)),
        ("resnet18_cifar", 20, ("conv1", "bn1", 27)),
    ],
)
def test_every_batch_norm_of_a_classifier_can_have_a_passport(
    name: str, number: int, first: tuple[str, str, int]
) -> None:
    model = ARCHITECTURES[name](3)
    found = keyed_norms(model)
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert (len(found), found[0]) == (number, first)
    assert {one.norm for one in found} == norms


def test_a_model_without_batch_norms_is_refused() -> None:
    with pytest.raises(BindingError, match="nothing to act on") as refused:
        keyed_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    assert "another method" in refused.value.hint


def test_a_model_computes_what_it_does_with_that_scale_and_bias_in_it() -> None:
    model = cnn_small()
    transforms = passports(model)
    leave_norms_to(model, transforms)
    found = logits(model, keyed(transforms))
    missing = logits(model, NO_KEY)
    for one in transforms.passports:
        weights = model.get_submodule(one.where.layer).weight.detach().numpy()
        scale, bias = one.apply(weights)
        norm = model.get_submodule(one.where.norm)
        norm.weight.data = torch.from_numpy(scale)
        norm.bias.data = torch.from_numpy(bias)
    torch.testing.assert_close(logits(model, NO_KEY), found)
    assert not torch.allclose(missing, found)


def test_another_key_gives_other_answers() -> None:
    model = cnn_small()
    other = ModelKey(bytes(32)).for_model(bytes(16))
    own, wrong = (keyed(passports(model, keys)) for keys in (SUBKEYS, other))
    assert not torch.allclose(logits(model, own), logits(model, wrong))


def test_nothing_of_the_key_stays_in_the_model() -> None:
    model = cnn_small()
    transforms = passports(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = logits(model, NO_KEY)
    logits(model, keyed(transforms))
    torch.testing.assert_close(model.state_dict(), before)
    torch.testing.assert_close(logits(model, NO_KEY), first)


def test_scale_and_bias_are_learned_through_the_weights_alone() -> None:
    model = cnn_small().requires_grad_()
    transforms = leave_norms_to(model, passports(model)), passports(model)
    logits(model, keyed(transforms[1])).square().sum().backward()
    norms = {one.where.norm for one in transforms[1].passports}
    for norm in norms:
        layer = model.get_submodule(norm)
        assert not layer.weight.requires_grad
        assert not layer.bias.requires_grad
        assert set(layer.weight.tolist()) == {1}
        assert set(layer.bias.tolist()) == {0}
    assert all(
        model.get_submodule(one.where.layer).weight.grad.abs().sum() > 0
        for one in transforms[1].passports
    )


def test_a_ramp_from_plain_images_keeps_the_passports() -> None:
    condition = keyed(passports(cnn_small()))
    assert blended(condition, 0.5).passports == condition.passports
