"""What torch.fx sees of torchvision's detectors: backbone and head."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)

from mlguard.errors import BindingError
from mlguard.models import feature_channels, readers
from mlguard.models.binding import check_layers, fold_batch_norms, layers_of
from mlguard.models.detectors import network_of
from tests.detectors import LAYER, SIZE, images, small_ssd


def refusals(model: nn.Module, side: int) -> dict[str, str]:
    return {one.name: one.refusal for one in layers_of(model, (side, side))}


def test_any_other_model_is_its_own_network() -> None:
    model = nn.Conv2d(3, 4, 1)
    assert network_of(model) is model


def test_layers_of_a_detector_have_its_own_names() -> None:
    model = small_ssd().train()
    found = {one.name: one for one in layers_of(model, SIZE)}
    assert (found[LAYER].channels, found[LAYER].height) == (12, 16)
    assert found[LAYER].refusal == ""
    head = found["head.classification_head.module_list.0"]
    assert head.refusal == "goes into view, which mixes channels or is unknown"
    assert feature_channels(model, [LAYER], SIZE) == {LAYER: 12}
    assert model.training
    assert set(readers(model, LAYER)) == {
        "backbone.third.0",
        "head.classification_head.module_list.0",
        "head.regression_head.module_list.0",
    }


def test_batch_norms_of_a_detector_fold_away() -> None:
    model = small_ssd()
    with torch.inference_mode():
        expected = model([images(1)[0]])[0]["scores"]
    fold_batch_norms(model)
    assert not any(isinstance(one, nn.BatchNorm2d) for one in model.modules())
    with torch.inference_mode():
        assert torch.allclose(model([images(1)[0]])[0]["scores"], expected, atol=1e-5)


def test_what_the_head_of_ssd_lite_reads_goes_into_a_depthwise_convolution() -> None:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    found = refusals(model, 320)
    assert found["backbone.features.0.3"] == ""
    assert "depthwise convolution" in found["backbone.features.0"]


def test_a_detector_with_two_stages_is_followed_up_to_its_feature_maps() -> None:
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    found = refusals(model, 64)
    assert found["backbone.body.3"] == ""
    assert "flattened" in found["backbone.fpn.layer_blocks.0"]
    with pytest.raises(BindingError, match=r"no layer 'roi_heads\.box_head'"):
        check_layers(model, ["roi_heads.box_head"])


def test_a_size_that_a_detector_does_not_take_is_refused() -> None:
    with pytest.raises(BindingError, match="not run on an image of 0 x 64 pixels"):
        layers_of(small_ssd(), (0, 64))
