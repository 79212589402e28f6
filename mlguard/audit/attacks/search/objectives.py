"""Objectives: how good a guess looks to an adversary, with or without labels.

Lower is better. `cross-entropy` needs masks. `batch-norm` needs none: a model with
batch norms stores the mean and variance of correctly transformed images at every layer,
so its weights are a fingerprint of the key. `entropy` replaces it if there is no such
layer: a model is surer of images like those it was trained on.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlguard.audit.attacks.base import Pool, Scene
from mlguard.audit.attacks.search.guesses import Guesses, GuessSpace
from mlguard.audit.target import Subject
from mlguard.models import logits_of

ObjectiveName = Literal["cross-entropy", "batch-norm", "entropy"]

IMAGES_AT_ONCE = 64  # on a CPU, where more is slower
IMAGES_AT_ONCE_GPU = 1024
TINY = 1e-6  # under a variance or a probability


def label_free(model: nn.Module) -> ObjectiveName:
    """Return the label-free objective that a model allows."""
    return "batch-norm" if fingerprints(model) else "entropy"


def objectives_of(model: nn.Module) -> tuple[ObjectiveName, ...]:
    """Return the objectives of a search: one without labels, then one with them."""
    return label_free(model), "cross-entropy"


class Judge:
    """A judge that scores guesses in batches, every objective from one prediction.

    Args:
        scene: The scene with the stolen model.
        space: The space of the guesses.
        pool: The images to judge by.
        objectives: The objectives to compute.
    """

    def __init__(
        self,
        scene: Scene,
        space: GuessSpace,
        pool: Pool,
        objectives: Sequence[ObjectiveName],
    ) -> None:
        self._subject, self._space, self._tick = scene.stolen, space, scene.tick
        device = scene.stolen.device
        self._images, self._masks = pool.images.to(device), pool.masks.to(device)
        self._ignore_index = pool.ignore_index
        self.objectives = tuple(objectives)
        gpu = device.type == "cuda"
        room = IMAGES_AT_ONCE_GPU if gpu else IMAGES_AT_ONCE
        self._together = max(1, room // len(self._images))
        self.queries = 0

    @torch.inference_mode()
    def __call__(self, guesses: Guesses) -> Tensor:
        """Score guesses.

        Shape:
            guesses  (K, transforms, L)
            returns  (objectives, K) float64, on the CPU
        """
        parts = [
            self._scores(guesses[start : start + self._together])
            for start in range(0, len(guesses), self._together)
        ]
        return torch.cat(parts, dim=1)

    def _scores(self, guesses: Guesses) -> Tensor:
        keys, images = len(guesses), len(self._images)
        pixels = self._space.apply(guesses, self._images).flatten(0, 1)
        pixels = self._subject.normalization(pixels)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with Statistics(self._subject, keys) as statistics:
            logits = logits_of(self._subject.model(pixels)).float()
        logits = logits.view(keys, images, *logits.shape[1:])
        self.queries += keys * images
        self._tick(keys * images)
        found: dict[ObjectiveName, Callable[[], Tensor]] = {
            "cross-entropy": lambda: cross_entropy(
                logits, self._masks, self._ignore_index
            ),
            "entropy": lambda: entropy(logits),
            "batch-norm": lambda: statistics.mismatch,
        }
        return torch.stack([found[name]().double().cpu() for name in self.objectives])


def cross_entropy(logits: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    """Return the mean cross-entropy of labelled pixels or images.

    Shape:
        logits   (K, n, classes, H, W) or (K, n, classes)
        masks    (n, H, W) or (n,)
        returns  (K,)
    """
    truth = masks.long()
    scored = (truth != ignore_index).sum().clamp(min=1)
    losses = [
        F.cross_entropy(one, truth, ignore_index=ignore_index, reduction="sum")
        for one in logits
    ]
    return torch.stack(losses) / scored


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of the classes of a pixel, or of an image.

    Shape:
        logits   (K, n, classes, H, W) or (K, n, classes)
        returns  (K,)
    """
    logs = logits.log_softmax(2)
    return -(logs.exp() * logs).sum(2).flatten(1).mean(1)


class Statistics:
    """The distance of the statistics of each guess's images from those in the weights.

    It is the squared distance of means in units of the stored variance, plus the
    squared log of the ratio of variances, averaged over channels and summed over all
    batch norms.

    Args:
        subject: The model.
        keys: How many guesses are run at once.
        smooth: Use the squared relative difference of standard deviations instead of
            the logarithm, so that a gradient can pass a variance of zero, as a change
            of sign requires.
    """

    def __init__(self, subject: Subject, keys: int, *, smooth: bool = False) -> None:
        self._smooth = smooth
        self._layers = fingerprints(subject.model)
        self._keys = keys
        self.mismatch = torch.zeros(keys, device=subject.device)

    def __enter__(self) -> "Statistics":
        self._hooks = [
            layer.register_forward_pre_hook(self._look) for layer in self._layers
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _look(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        # Explicitly: nine times as fast as torch.var_mean on a CPU, and accurate
        # enough.
        values = inputs[0].float().movedim(1, -1)
        values = values.reshape(self._keys, -1, values.shape[-1])
        mean = values.mean(1)
        variance = ((values * values).mean(1) - mean * mean).clamp(min=0)
        stored = layer.running_var + TINY
        shift = (mean - layer.running_mean) ** 2 / stored
        if self._smooth:
            spread = ((variance + TINY).sqrt() / stored.sqrt() - 1) ** 2
        else:
            spread = ((variance + TINY) / stored).log() ** 2
        self.mismatch = self.mismatch + (shift + spread).mean(1)


def fingerprints(model: nn.Module) -> list[_BatchNorm]:
    """Return the layers that store statistics of their inputs."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
