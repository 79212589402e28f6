"""Try the keys that the published research code makes from integers.

There a key is the next `torch.randperm` after `torch.manual_seed(seed)`. This module
makes the same permutations, to find them; nothing is ever protected with one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard import recipe
from mlguard.audit.attacks.base import Attack, Group, Pool, Scene
from mlguard.audit.attacks.search.best import Space, best_outcomes, subset, variants_of
from mlguard.audit.attacks.search.guesses import (
    Guess,
    Guesses,
    GuessSpace,
    unsearchable,
)
from mlguard.audit.attacks.search.objectives import (
    Judge,
    ObjectiveName,
    Statistics,
    cross_entropy,
    entropy,
    objectives_of,
)
from mlguard.audit.attacks.training.adapters import feature_maps
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import Condition, keyed, logits_of
from mlguard.transforms import ChannelPermutation, TransformSet
from mlguard.transforms.blocks import block_length
from mlguard.transforms.format_preserving import encryption_table

PASSWORD = b"password"  # password of ffx in the published code
ONE_KEY = "the published code has one key: for images, or for one feature map"


@dataclass(frozen=True)
class IntegerSeeds(Attack):
    """Score the keys of the seeds 0 … N-1, and keep the best.

    The order of `shf`, the mask of `np` and `ffx`, and the order of a single layer of
    `channels` are made from a permutation that follows from a seed.

    Adversary: has the weights, the published code, and a few images of its own; no key.
               For `ffx` it also has the table, as where the password is published.
    Budget:    `seeds` keys, each on `images` images; 16 images and a million seeds are
               16 million predictions.
    Success:   the best key gives the correct key's score on other images.
    Limits:    finds nothing in a model whose key is not a seed below `seeds`; keys of
               mlguard never are. The generator of the CPU, which the published code
               uses, in the release of torch that is installed: another one may permute
               otherwise. It starts from the lowest 32 bits of a seed, so 2^32 seeds are
               all there are, but they are 3 million times as many as a quick budget
               tries. One method or one layer, no chain.
    Source:    the key of the code beside AprilPyone and Kiya 2021, arXiv:2010.00801;
               the label-free objectives are our own.

    Attributes:
        images: The adversary's images.
        seeds: The number of seeds, N.
    """

    name: ClassVar[str] = "integer-seeds"
    reads_statistics: ClassVar[bool] = True
    images: int = 16
    seeds: int = 1500

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack with as many seeds as any search has guesses."""
        return cls(seed=seed, images=budget.search_images, seeds=budget.guesses)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        spec = scene.spec
        if spec.image_methods and (why := unsearchable(spec)):
            return why
        return "" if len(spec.image_methods) + len(spec.layers) == 1 else ONE_KEY

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return one variant with labels and one without, from the same keys."""
        return [variants_of(scene, objectives_of(scene.stolen.model), self.images)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Judge the key of every seed once, and score the best."""
        pool = subset(scene.pool, self.images)
        both = objectives_of(scene.stolen.model)
        space: Space
        if scene.spec.image_methods:
            space = GuessSpace.of(scene.spec, scene.leaks.table())
            judge: Judge | _LayerJudge = Judge(scene, space, pool, both)
            (method,), length = space.methods, space.length
        else:
            ((layer, length),) = feature_maps(scene).items()
            space, method = LayerSpace(layer), "channels"
            judge = _LayerJudge(scene, space, pool, both)
        guesses = (
            published_key(method, length, seed)[None] for seed in range(self.seeds)
        )
        yield from best_outcomes(scene, space, judge, guesses, self.name, group)


def published_key(method: str, length: int, seed: int) -> NDArray[np.int64]:
    """Return the key that the published code makes from a seed.

    For `np` and `ffx` it sets the positions that draw more than half of the length:
    one fewer than half of them, where that is even.

    Args:
        method: "shf", "np", "ffx" or "channels".
        length: Values of a block, or channels of a feature map.
        seed: At least 0.

    Shape:
        returns  (length,) an order, or zeros and ones
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(length, generator=generator).numpy()
    if method in ("shf", "channels"):
        return np.asarray(order, dtype=np.int64)
    return (order > length / 2).astype(np.int64)


def published_transforms(
    spec: recipe.Transform,
    seed: int,
    *,
    channels: Mapping[str, int] | None = None,
    password: bytes = PASSWORD,
) -> TransformSet:
    """Return the transforms of a seed's key, to audit a model that was trained so.

    Never protect a model with it: a thief can count up to the seed.

    Args:
        spec: One method, or `channels` with one layer.
        seed: At least 0.
        channels: How many channels the layer's output has, by its name.
        password: The password of `ffx`.

    Raises:
        ValueError: The published code has no key for this.
    """
    size, layers = spec.image_block_size, dict(channels or {})
    if len(spec.image_methods) + len(layers) != 1 or set(layers) != set(spec.layers):
        raise ValueError(ONE_KEY)
    if layers:
        ((layer, number),) = layers.items()
        order = published_key("channels", number, seed)
        return TransformSet(None, (ChannelPermutation(layer, order),))
    (method,) = spec.image_methods
    table = encryption_table(password) if method == "ffx" else None
    space = GuessSpace.of(spec, table)
    return space.transforms(published_key(method, block_length(size), seed)[None])


@dataclass(frozen=True)
class LayerSpace:
    """The orders of the channels of one layer's output; a guess is (1, C)."""

    layer: str
    table: None = None

    def transforms(self, guess: Guess) -> TransformSet:
        """Return the transforms of a guess: key material if it is right."""
        return TransformSet(None, (ChannelPermutation(self.layer, guess[0]),))


class _LayerJudge:
    """Scores orders of a feature map."""

    def __init__(
        self,
        scene: Scene,
        space: LayerSpace,
        pool: Pool,
        objectives: tuple[ObjectiveName, ...],
    ) -> None:
        self._subject, self._space, self._tick = scene.stolen, space, scene.tick
        device = scene.stolen.device
        self._images, self._masks = pool.images.to(device), pool.masks.to(device)
        self._ignore_index = pool.ignore_index
        self.objectives = objectives
        self.queries = 0

    @torch.inference_mode()
    def __call__(self, guesses: Guesses) -> Tensor:
        """Score guesses. Shape: (K, 1, C) to (objectives, K)."""
        return torch.stack([self._scores(guess) for guess in guesses], dim=1)

    def _scores(self, guess: Guess) -> Tensor:
        with Statistics(self._subject, 1) as statistics:
            output = self._subject.run_watched(self._images, self._condition(guess))
        logits = logits_of(output).float()[None]
        self.queries += len(self._images)
        self._tick(len(self._images))
        scores = {
            "cross-entropy": cross_entropy(logits, self._masks, self._ignore_index),
            "entropy": entropy(logits),
            "batch-norm": statistics.mismatch,
        }
        return torch.cat([scores[name].double().cpu() for name in self.objectives])

    def _condition(self, guess: Guess) -> Condition:
        return keyed(self._space.transforms(guess), self._subject.device)
