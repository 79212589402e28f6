"""Segmentation models with patch stems: sizes, attention, pooling, gradients, keys."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import SwinTransformer
from torchvision.models.swin_transformer import ShiftedWindowAttention

from mlguard.models import ARCHITECTURES
from mlguard.models.architectures.decoders import region_means
from mlguard.models.architectures.fcn_patch_small import FCNPatchSmall
from mlguard.models.architectures.setr_vit_b_16 import SETRViTB16
from mlguard.models.architectures.shifted_windows import WindowAttention
from mlguard.models.architectures.sizes import WholePatches, missing
from mlguard.models.binding import find_stem, form_of_stem
from mlguard.models.positions import resampled

PATCHES = {
    "fcn_patch_small": 4,
    "fcn_convnext_tiny": 4,
    "upernet_swin_t": 4,
    "setr_vit_b_16": 16,
}


@pytest.fixture(scope="module", params=PATCHES)
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    return request.param, ARCHITECTURES[request.param](5)


@torch.inference_mode()
def test_images_of_any_size_get_logits_for_every_pixel(
    built: tuple[str, nn.Module],
) -> None:
    for size in [(1, 1), (65, 97)]:
        logits = built[1].eval()(torch.rand(1, 3, *size))
        assert logits.shape == (1, 5, *size)
        assert bool(logits.isfinite().all())


def test_every_parameter_gets_a_gradient(built: tuple[str, nn.Module]) -> None:
    """Data parallel training stops at parameters that no loss reaches."""
    model = built[1].train()
    model.zero_grad()
    model(torch.rand(2, 3, 32, 64)).square().sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None] == []


def test_the_first_layer_takes_a_key_as_it_is(built: tuple[str, nn.Module]) -> None:
    name, model = built
    stem = find_stem(model)
    assert stem.layer.kernel_size == (PATCHES[name],) * 2
    assert {form_of_stem(model, m) for m in (1, 2, 4, PATCHES[name])} == {"patch"}


def test_the_small_one_is_small() -> None:
    assert sum(one.numel() for one in FCNPatchSmall(6).parameters()) < 350_000


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [(8, 8), (14, 9), (20, 33)])
@torch.inference_mode()
def test_window_attention_gives_what_torchvisions_gives(
    shift: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    theirs = ShiftedWindowAttention(24, [7, 7], [shift, shift], 3)
    ours = WindowAttention(24, [7, 7], [shift, shift], 3)
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(2, *size, 24)
    torch.testing.assert_close(ours(features), theirs(features))
    if shift:  # the twin: the shift and what it keeps apart are seen
        ours.shift_size = [2, 2]
        assert (ours(features) - theirs(features)).abs().max() > 1e-2


@torch.inference_mode()
def test_swins_encoder_computes_what_torchvisions_does() -> None:
    torch.manual_seed(0)
    model = ARCHITECTURES["upernet_swin_t"](2).eval()
    theirs = SwinTransformer([4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], [7, 7]).eval()
    theirs.features.load_state_dict(model.features.state_dict())
    pixels = torch.rand(1, 3, 256, 288)
    torch.testing.assert_close(model.features(pixels), theirs.features(pixels))


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 4), (7, 13), (8, 8)])
def test_region_means_are_torchs_adaptive_average(
    bins: int, size: tuple[int, int]
) -> None:
    features = torch.randn(2, 5, *size)
    expected = F.adaptive_avg_pool2d(features, bins)
    torch.testing.assert_close(region_means(features, bins), expected)


def test_positions_of_the_size_of_training_stay_as_they_are() -> None:
    embedding = torch.randn(1, 1 + 14 * 14, 8)
    assert torch.equal(resampled(embedding, 14, 14), embedding)
    assert resampled(embedding, 3, 20).shape == (1, 1 + 3 * 20, 8)
    rows = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)
    grown = resampled(torch.cat((torch.zeros(1, 1, 1), rows), 1), 8, 4)[0, 1:, 0]
    assert torch.equal(grown.view(8, 4)[:, 0], grown.view(8, 4)[:, 3])
    assert bool((grown.view(8, 4)[:, 0].diff() > 0).all())  # rows stay rows


@torch.inference_mode()
def test_a_vision_transformer_knows_where_a_patch_is() -> None:
    torch.manual_seed(0)
    model = SETRViTB16(3, depth=2, channels=32, heads=2).eval()
    logits = model(torch.zeros(1, 3, 64, 64))
    assert (logits[..., 8, 8] - logits[..., 56, 56]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("sides", "least", "expected"),
    [((8, 16), 1, (0, 0)), ((9, 1), 1, (7, 7)), ((9, 1), 3, (15, 23))],
)
def test_what_is_missing_to_whole_strides(
    sides: tuple[int, int], least: int, expected: tuple[int, int]
) -> None:
    assert missing(sides, 8, least=least) == expected


def test_padding_is_zeros_below_and_to_the_right() -> None:
    pixels = torch.ones(1, 3, 5, 8)
    padded: Tensor = WholePatches(4)(pixels)
    assert torch.equal(padded[..., :5, :8], pixels)
    assert padded.shape == (1, 3, 8, 8)
    assert float(padded.sum()) == float(pixels.sum())
