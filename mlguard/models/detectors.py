"""The network inside one of torchvision's object detectors.

A detector takes a list of images and branches on the boxes that it finds, so neither
torch.fx nor a computation without values can follow it. What has weights can be
followed: backbone and head.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

DETECTORS = (SSD, RetinaNet, FCOS, GeneralizedRCNN)


class DetectorNetwork(nn.Module):
    """The backbone and the head of a detector, under the names they have in it.

    The modules are the detector's own: what is changed here is changed there. A
    detector with two stages is followed up to its backbone's feature maps.

    Args:
        detector: One of torchvision's detectors.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  {"out": …}, for each anchor its scores and its box, (N, A, K + 4); with
                 two stages, all feature maps in a row
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone = detector.get_submodule("backbone")
        two_stages = isinstance(detector, GeneralizedRCNN)
        self.head = None if two_stages else detector.get_submodule("head")

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Compute the scores and boxes of all anchors."""
        found = self.backbone(pixels)
        maps = list(found.values()) if isinstance(found, Mapping) else [found]
        if self.head is None:
            return {"out": torch.cat([one.flatten(1) for one in maps], 1)}
        return {"out": torch.cat(list(self.head(maps).values()), -1)}


def network_of(model: nn.Module) -> nn.Module:
    """Return the network of a detector; any other model is its own."""
    return DetectorNetwork(model) if isinstance(model, DETECTORS) else model
