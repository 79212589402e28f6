"""Read a key off the structure of the weights into which it was folded."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from mlguard.audit.attacks.base import Attack, Group, Scene
from mlguard.audit.attacks.reasons import FFX_IN_NO_WEIGHT
from mlguard.audit.attacks.search.best import found, subset, variants_of
from mlguard.audit.attacks.search.guesses import GuessSpace, unsearchable
from mlguard.audit.attacks.search.objectives import Judge, ObjectiveName, label_free
from mlguard.audit.attacks.stem.lifted import (
    Option,
    Structure,
    after,
    options,
    structure_of,
)
from mlguard.audit.attacks.stem.stem_fit import StemFit, too_wide
from mlguard.audit.findings import Budget, Outcome
from mlguard.data.draws import Draws
from mlguard.errors import BindingError
from mlguard.models.binding import LiftedStem, find_stem
from mlguard.transforms.blocks import CHANNELS

ROUNDS = 3  # perturbations of a reading, for each start
MAX_REST = 0.25  # share of the rest of random readings; above it, no reading fits
SWEEPS = 4  # sweeps over all classes, at most; it ends when nothing changes


@dataclass(frozen=True)
class WeightsOnly(Attack):
    """Distinguish positions by the zeros and equal taps of a lifted stem.

    The zeros show which pixel a position is, and equal taps which positions have the
    same colour, and in which of them it is inverted. The remaining choices, 3! colours
    and 2³ signs for each of stride² classes of pixels, are tried class by class.

    If zeros and ties are blurred, by training or by noise, the search starts from them
    and ends at the key under which the stem is nearest to a plain convolution on
    natural images (stem_fit.py); then 3! colours and 2³ signs remain.

    Adversary: has the weights and this code; and, to try what is left, a few unlabelled
               images of its own, whose covariance also stands for natural images.
    Budget:    the structure costs no prediction; then at most 48 keys for each class
               and for all at once, sweep and start, each on `images` images.
    Success:   the key found gives the correct key's score on other images.
    Limits:    lifted stems alone: a patch stem has neither ties nor zeros, and the
               smoothness of its filters is not tried. `orthogonal` mixes the columns;
               its subspaces are not searched. It did not converge if the zeros do not
               fit, and the stem is too wide or not near any plain convolution.
    Source:    our own.

    Attributes:
        images: The adversary's images.
        starts: The number of choices to start from.
    """

    name: ClassVar[str] = "weights-only"
    needs_weights: ClassVar[bool] = True
    images: int = 16
    starts: int = 4

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack with as many images and starts as any search."""
        return cls(seed=seed, images=budget.search_images, starts=budget.starts)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if why := unsearchable(scene.spec):
            return why
        if "ffx" in scene.spec.image_methods:
            return FFX_IN_NO_WEIGHT
        if _lifted(scene.stolen.model) is None:
            return "the model has no lifted stem with zeros and ties to read"
        if scene.once(_plain) is None:
            return "the architecture's own stem is not a convolution"
        return ""

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return one variant, named for the objective of the remaining choices."""
        stem, _, structure = scene.once(_read)
        return [variants_of(scene, [_objective(scene, stem, structure)], self.images)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Read the structure, and try the remaining choices."""
        pool, (variant,) = subset(scene.pool, self.images), group
        stem, plain, structure = scene.once(_read)
        space = GuessSpace.of(scene.spec, None)
        fits = structure.zeros == 1.0
        objective = _objective(scene, stem, structure)
        if _blurred(stem, structure):
            fit = StemFit.of(stem, plain, pool.images, scene.stolen.normalization)
            structure, fits = self._refined(structure, fit, space)
        judge = Judge(scene, space, pool, (objective,))
        choice = self._resolve(structure, space, judge)
        yield found(
            scene,
            space,
            structure.guess(space, choice),
            self.name,
            variant,
            queries=judge.queries,
            converged=fits,
        )

    def _refined(
        self, structure: Structure, fit: StemFit, space: GuessSpace
    ) -> tuple[Structure, bool]:
        """Return what the weights show beyond their zeros, and whether it fits."""
        draws = Draws(self.seed, self.starts)
        reading = fit.read(
            structure.pixels * CHANNELS + structure.colours,
            moved="shf" in space.methods,
            inverted="np" in space.methods,
            rounds=ROUNDS * self.starts,
            draws=draws,
        )
        fits = reading.rest < MAX_REST * fit.usual_rest(draws)
        return structure.replaced(reading.order, reading.signs), fits

    def _resolve(
        self, structure: Structure, space: GuessSpace, judge: Judge
    ) -> dict[int, Option]:
        """Choose for one class after the other, until no choice improves."""
        choices = options(space.methods)
        classes = [int(one) for one in np.unique(structure.classes)]
        ends: list[tuple[float, dict[int, Option]]] = []
        for start in range(self.starts):
            draws = Draws(self.seed, start)
            last = (len(choices) - 1) if start else 0  # the first start is the simplest
            choice = {one: choices[draws.between(0, last)] for one in classes}
            looks = math.inf
            for _ in range(SWEEPS):
                before = looks
                for one in (*classes, None):
                    tried = [
                        {each: after(choice[each], option) for each in classes}
                        if one is None  # all at once: inverted, each looks best alone
                        else choice | {one: option}
                        for option in choices
                    ]
                    guesses = np.stack([structure.guess(space, each) for each in tried])
                    scores = judge(guesses)[0]
                    best = int(torch.argmin(scores))
                    choice, looks = tried[best], float(scores[best])
                if not looks < before:
                    break
            ends.append((looks, choice))
        return min(ends, key=lambda end: end[0])[1]


def _read(scene: Scene) -> tuple[LiftedStem, nn.Conv2d, Structure]:
    """Return the stolen stem, the architecture's own, and the structure of both."""
    stem, plain = _lifted(scene.stolen.model), scene.once(_plain)
    assert stem is not None
    assert plain is not None
    moved = "shf" in scene.spec.image_methods
    return stem, plain, structure_of(stem, plain, moved=moved)


def _blurred(stem: LiftedStem, structure: Structure) -> bool:
    return structure.zeros != 1.0 and not too_wide(stem)


def _objective(scene: Scene, stem: LiftedStem, structure: Structure) -> ObjectiveName:
    # Noise in a stem moves the statistics of channels that hardly vary.
    return "entropy" if _blurred(stem, structure) else label_free(scene.stolen.model)


def _lifted(model: nn.Module) -> LiftedStem | None:
    try:
        layer = find_stem(model).layer
    except BindingError:
        return None
    return layer if isinstance(layer, LiftedStem) else None


def _plain(scene: Scene) -> nn.Conv2d | None:
    """Return the architecture's own stem, for its shape."""
    blank = scene.public.model_copy(update={"weights": "none"})
    try:
        layer = find_stem(scene.new_model(blank, seed=0)).layer
    except BindingError:
        return None
    return layer if isinstance(layer, nn.Conv2d) else None
