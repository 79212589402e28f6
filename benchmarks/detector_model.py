"""SSD-Lite on MobileNetV2, trained from what its first blocks give.

The first blocks are public and stay as they are, so their feature maps are computed
once for a few views of every image and serve every training and every score.
"""

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation, box_iou

FROZEN = 13  # the first blocks of MobileNetV2, up to stride 16
TAP = 14  # the block whose expansion is the first map of SSD-Lite
MAPS = (576, 1280, 512, 256, 256)  # channels of the maps that the head reads
HALF = (0.5, 0.5, 0.5)  # mean and std of the public weights
NORM = nn.BatchNorm2d

Target = dict[str, Tensor]


class Backbone(nn.Module):
    """MobileNetV2 and three more blocks; gives five feature maps.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  five maps (N, C, h, w), of strides 16, 32, 64, …
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2(weights=None).features
        self.extra = nn.ModuleList(
            _smaller(before, after) for before, after in pairwise(MAPS[1:])
        )

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        return self.after(self.before(pixels))

    def before(self, pixels: Tensor) -> Tensor:
        """Run the blocks that stay as they are."""
        for layer in self.features[:FROZEN]:
            pixels = layer(pixels)
        return pixels

    def after(self, features: Tensor) -> OrderedDict[str, Tensor]:
        """Run the others."""
        for layer in self.features[FROZEN:TAP]:
            features = layer(features)
        expansion, *rest = self.features[TAP].conv
        maps = [expansion(features)]
        features = maps[0]
        for layer in (*rest, *self.features[TAP + 1 :]):
            features = layer(features)
        maps.append(features)
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(n), one) for n, one in enumerate(maps))


def _smaller(before: int, after: int) -> nn.Sequential:
    """Halve the sides of a map, as SSD-Lite does behind its backbone."""
    between = after // 2
    settings = {"norm_layer": NORM, "activation_layer": nn.ReLU6}
    return nn.Sequential(
        Conv2dNormActivation(before, between, 1, **settings),
        Conv2dNormActivation(between, between, 3, 2, groups=between, **settings),
        Conv2dNormActivation(between, after, 1, **settings),
    )


def new_detector(classes: int, side: int, weights: Path | None, seed: int) -> SSD:
    """A detector of images of `side` x `side` pixels; classes with the background."""
    torch.manual_seed(seed)
    anchors = DefaultBoxGenerator([[2, 3]] * len(MAPS), min_ratio=0.15, max_ratio=0.95)
    head = SSDLiteHead([*MAPS], anchors.num_anchors_per_location(), classes, NORM)
    backbone = Backbone()
    if weights is not None:
        backbone.load_state_dict(public_weights(weights), strict=False)
    return SSD(
        backbone,
        anchors,
        (side, side),
        classes,
        image_mean=HALF,
        image_std=HALF,
        head=head,
        score_thresh=0.03,
        nms_thresh=0.5,
        topk_candidates=100,
        detections_per_img=100,
    ).eval()


def public_weights(path: Path) -> dict[str, Tensor]:
    """The published weights of the backbone's blocks, by their names in it."""
    return {name: value.float() for name, value in load_file(path).items()}


class Views(NamedTuple):
    """Images after the blocks that stay as they are, and where their boxes are.

    Attributes:
        features: (N, C, h, w) float16, one row for a view of an image.
        targets: Of every row, torchvision's boxes and labels, in pixels of the model.
        side: Of the model's images, in pixels.
    """

    features: Tensor
    targets: list[Target]
    side: int


@torch.inference_mode()
def views_of(model: SSD, images: list[Tensor], targets: list[Target]) -> Views:
    """Run images through the detector's own resizing and its first blocks.

    Shape:
        images  each (3, H, W) uint8
    """
    rows, moved = [], []
    for start in range(0, len(images), BATCH):
        part = [one.float() / 255 for one in images[start : start + BATCH]]
        listed, resized = model.transform(part, targets[start : start + BATCH])
        rows.append(model.backbone.before(listed.tensors).half())
        moved += resized
    (side,) = set(model.transform.fixed_size)
    return Views(torch.cat(rows), moved, side)


BATCH = 32


def losses_of(model: SSD, features: Tensor, targets: list[Target], side: int) -> Tensor:
    """The detector's own losses, from the maps after its first blocks."""
    outputs, anchors = _outputs(model, features, side)
    matched = [
        model.proposal_matcher(box_iou(target["boxes"], one))
        if len(target["boxes"])
        else torch.full((len(one),), -1)
        for target, one in zip(targets, anchors, strict=True)
    ]
    losses = model.compute_loss(targets, outputs, anchors, matched)
    return losses["bbox_regression"] + losses["classification"]


@torch.inference_mode()
def detect(model: SSD, views: Views) -> list[Target]:
    """What the detector finds, in pixels of its images."""
    found = []
    for part in views.features.split(BATCH):
        outputs, anchors = _outputs(model, part.float(), views.side)
        sizes = [(views.side, views.side)] * len(part)
        found += model.postprocess_detections(outputs, anchors, sizes)
    return found


def _outputs(
    model: SSD, features: Tensor, side: int
) -> tuple[dict[str, Tensor], list[Tensor]]:
    maps = list(model.backbone.after(features).values())
    image = ImageList(features.new_empty(1, 3, side, side), [(side, side)])
    anchors = model.anchor_generator(image, [one[:1] for one in maps])
    return model.head(maps), anchors * len(features)  # the same for every image


def learning(model: SSD) -> None:
    """Put everything in training mode but the blocks that stay as they are."""
    model.train()
    for layer in model.backbone.features[:FROZEN]:
        layer.eval().requires_grad_(False)
