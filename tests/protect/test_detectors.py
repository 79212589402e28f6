"""torchvision's detectors beyond the page's: SSD-Lite and Mask R-CNN. Slow."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import (
    maskrcnn_resnet50_fpn,
    ssdlite320_mobilenet_v3_large,
)

from mlguard.errors import ParityError
from mlguard.protect import Answer, Pixels, bind
from tests.runs import KEY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # torch's older exporter warns
]


def ssdlite() -> nn.Module:
    torch.manual_seed(0)
    return ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Give batch norms the statistics of some images, so that scores differ."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    for _ in range(2):
        images = model.transform([torch.rand(3, 320, 320) for _ in range(4)])[0]
        model.head(list(model.backbone(images.tensors).values()))


def bound(model: nn.Module, out: Path, side: int):
    return bind(
        model,
        KEY,
        out,
        example=torch.rand(1, 3, side, side),
        pixels=Pixels((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        answer=Answer("detection", ("background", "cat", "dog")),
    )


def test_ssdlite_whose_scores_differ_is_bound(tmp_path: Path) -> None:
    model = ssdlite()
    settle(model)
    done = bound(model, tmp_path / "ssdlite.mlgb", 320)
    assert set(done.outputs) == {"boxes", "labels", "scores"}
    assert done.difference < 1e-3


def test_ssdlite_with_random_weights_is_refused_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="scores are equal but for rounding"):
        bound(ssdlite(), tmp_path / "ssdlite.mlgb", 320)
    assert not (tmp_path / "ssdlite.mlgb").exists()


def test_mask_rcnn_gives_masks_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        min_size=128,
        max_size=128,
        box_detections_per_img=10,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_test=50,
    )
    done = bound(model, tmp_path / "mask.mlgb", 128)
    assert done.outputs == ("boxes", "labels", "scores", "masks")
