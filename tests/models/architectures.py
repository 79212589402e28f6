"""Models for tests of what is folded into them: ours, torchvision's, patches.

In float64: untrained deep models enlarge the rounding of float32 without bound.
"""

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from mlguard.models import ARCHITECTURES, logits_of
from mlguard.models.architectures.fcn_patch_small import FCNPatchSmall
from mlguard.models.architectures.setr_vit_b_16 import SETRViTB16

CLASSES = 3


class ConvNeXtTiny(nn.Module):
    """torchvision's ConvNeXt, two small stages, as a segmentation model."""

    def __init__(self) -> None:
        super().__init__()
        stages = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
        self.features = ConvNeXt(stages).features
        self.head = nn.Conv2d(32, CLASSES, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


class SwinTiny(nn.Module):
    """torchvision's Swin, two small stages."""

    def __init__(self) -> None:
        super().__init__()
        self.features = SwinTransformer([4, 4], 16, [2, 2], [2, 4], [2, 2]).features
        self.head = nn.Conv2d(32, CLASSES, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels).permute(0, 3, 1, 2))


class PatchNoBias(nn.Module):
    """A patch embedding without a bias, as ConvMixer's with a norm behind it."""

    def __init__(self, patch: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, patch, stride=patch, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Conv2d(16, CLASSES, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.embed(pixels))))


def vit_tiny() -> nn.Module:
    """torchvision's ViT with 16 × 16 patches; for 32 × 32 images alone."""
    return VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=CLASSES)


def setr_tiny() -> nn.Module:
    """SETR with two blocks; for images of any size."""
    return SETRViTB16(CLASSES, depth=2, channels=32, heads=2)


PATCH: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "convnext": (ConvNeXtTiny, 4),
    "swin": (SwinTiny, 4),
    "vit": (vit_tiny, 16),
    "no bias": (PatchNoBias, 8),
    "setr": (setr_tiny, 16),
    "fcn_patch_small": (lambda: FCNPatchSmall(CLASSES), 4),
}
ORDINARY = [
    "fcn_small",
    "fcn_mobilenet_v2",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "cnn_small",
    "resnet18_cifar",
]


@cache
def _made(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return enlivened(ARCHITECTURES[name](CLASSES))


def architecture(name: str, seed: int = 0) -> nn.Module:
    """One of ORDINARY, enlivened; a copy, since drawing its weights takes longest."""
    return copy.deepcopy(_made(name, seed))


def patch_model(name: str) -> nn.Module:
    """One of PATCH, enlivened."""
    torch.manual_seed(0)
    return enlivened(PATCH[name][0]())


@torch.no_grad()
def enlivened(model: nn.Module) -> nn.Module:
    """Change whatever is the identity or zero in a new model, as training would."""
    model.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.3, 0.3)
            module.momentum = None  # statistics of all that is seen, not of the last
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.uniform_(-0.3, 0.3)
        if isinstance(module, nn.Linear):
            module.weight.normal_(0, 0.2)
    model.train()(torch.rand(4, 3, 32, 32).double() * 2 - 1)
    return model.eval()


@torch.inference_mode()
def logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """What a model gives in eval mode."""
    return logits_of(model.eval()(pixels))


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    largest = max(float(one.detach().abs().max()), float(other.detach().abs().max()))
    return float((one - other).detach().abs().max()) / max(largest, 1e-30)
