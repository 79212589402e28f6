"""A small detector of torchvision's, whose scores differ, for tests."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

SIZE = (64, 64)
LAYER = "backbone.second"  # what the head and the layer behind it read


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = convolution(3, 8)
        self.second = convolution(8, 12)
        self.third = convolution(12, 16)
        self.out_channels = [12, 16]

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        second = self.second(self.first(pixels))
        return OrderedDict([("0", second), ("1", self.third(second))])


def convolution(before: int, after: int) -> nn.Sequential:
    layer = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())


def small_ssd() -> SSD:
    torch.manual_seed(0)
    anchors = DefaultBoxGenerator([[2], [2]])
    model = SSD(Backbone(), anchors, SIZE, 3, detections_per_img=20)
    with torch.no_grad():  # scores and boxes that depend on the image
        for layer in model.head.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(3)
    return model.eval()


def images(number: int) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.rand(number, 3, *SIZE, generator=draws)
