"""Both halves as one model: for training, evaluation and export."""

import copy
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.errors import RunError
from mlguard.models.split.backbones import Backbone
from mlguard.models.split.onnx_backbone import OnnxBackbone
from mlguard.models.split.remembered import Memory, half_maps
from mlguard.models.split.slices import Classifier, Segmenter

Half = Callable[..., nn.Module]


class Sliced(nn.Module):
    """A public backbone that never learns, and the slices that do.

    The backbone stays in eval mode, its batch norms too, and its maps reach the slices
    in half precision, as a host sends them. `thaw` undoes all of that: what is left is
    an ordinary model, the one that a split model is compared with.

    Args:
        backbone: The public half.
        private: The private half, from pixels and the backbone's maps to logits.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  the private half's logits
    """

    def __init__(self, backbone: Backbone | OnnxBackbone, private: nn.Module) -> None:
        super().__init__()
        self.backbone, self.private = backbone.requires_grad_(False), private
        self._frozen = True
        self._memory: Memory | None = None
        self.train(self.training)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.private(pixels, self._maps(pixels))
        return logits

    def train(self, mode: bool = True) -> Self:
        """Let the slices learn; a frozen backbone does not change."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def thaw(self) -> None:
        """Let the backbone learn too.

        Raises:
            RunError: It is an ONNX file, which cannot learn.
        """
        if isinstance(self.backbone, OnnxBackbone):
            raise cannot_learn(self.backbone.file)
        self._frozen = False
        self.backbone.requires_grad_(True)
        self.train(self.training)

    def of_host(self, *, seed: int) -> "Sliced":
        """Return a host's model: the same backbone, with untrained slices.

        Args:
            seed: The seed of the slices' weights.
        """
        host = copy.deepcopy(self)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in host.private.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    layer.reset_parameters()
        return host

    @contextmanager
    def remembering(self, limit: int) -> Iterator[Memory]:
        """Compute the backbone's maps of every image once while the block runs.

        Args:
            limit: The bytes on the disk; beyond them, maps are computed every time.
        """
        with closing(Memory(self.backbone, limit)) as memory:
            self._memory = memory
            try:
                yield memory
            finally:
                self._memory = None

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        if not self._frozen:
            found: list[Tensor] = self.backbone(pixels)
            return found
        if self._memory is None:
            maps = half_maps(self.backbone, pixels)
        else:
            maps = self._memory.maps(pixels)
        return [one.to(pixels.dtype) for one in maps]


def sliced(spec: recipe.Model, classes: int, half: Half) -> Sliced:
    """Build a model in two halves, with any weights in the backbone.

    Args:
        spec: The recipe's [model] section.
        classes: Number of classes, without the ignored one.
        half: Segmenter or Classifier.

    Raises:
        RecipeError: The backbone lacks one of the feature maps.
        ModelFileError: It is an ONNX file that cannot be read.
    """
    if spec.backbone is None:
        raise AssertionError("the recipe was not checked")
    kind = OnnxBackbone if spec.backbone_is_file else Backbone
    backbone = kind(spec.backbone, spec.maps)
    return Sliced(backbone, half(backbone.maps, spec.widths, spec.side, classes))


def cannot_learn(backbone: str) -> RunError:
    """Return the refusal to train a backbone that is an ONNX file."""
    return RunError(
        f"a plain twin trains its backbone, and {backbone} is an ONNX file, which "
        "cannot learn",
        hint="leave the twin out, or take a backbone of torchvision or timm",
    )


__all__ = ["Classifier", "Segmenter", "Sliced", "cannot_learn", "sliced"]
