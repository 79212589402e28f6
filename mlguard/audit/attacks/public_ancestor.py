"""Match stolen weights with their public ancestor, and read the key off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.places import Places
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.training.adapters import (
    Adapters,
    FeatureAdapter,
)
from mlguard.audit.attacks.training.learning import Lesson, Trained, best_of_trained
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import Condition, rewrite
from mlguard.models.conditions import Change

NO_FILE = (
    "there is no public ancestor of the weights on this machine: the recipe does not "
    "start from a .safetensors file, and none was given with --ancestor"
)
MATCHED, LEARNED = "matched columns", "matched columns, adapters"
ALIKE = 0.5  # mean cosine of matched weights; below this they are not relatives


@dataclass(frozen=True)
class PublicAncestor(Attack):
    """Pair the columns of a stolen layer with those of its public ancestor.

    The order of columns shows the key (places.py). If the ancestor lacks the layer that
    reads a feature map, as before a different head, the key's effect there is learned
    from labelled images, as a matrix.

    Adversary: has the weights, this code, and the public weights that training
               started from, or those of a plain model of the same owner; no image, or
               n labelled ones.
    Budget:    one assignment for each place where the key acts, or one singular value
               decomposition for `orthogonal`; seconds. For the adapters `steps` at
               every learning rate.
    Success:   the permutation found gives the correct key's score on other images.
    Limits:    finds what was folded into weights (`channels`, and stems bound to `shf`,
               `np` or `orthogonal`). A model that was trained under its key from public
               weights started from them unpermuted: its weights are like the
               ancestor's in another order than the key's, or unlike them. Without
               labels the control is the floor, also where the ancestor itself is a
               whole model.
    Source:    the public-weight attacks on obfuscated models of Zhang et al. 2024,
               arXiv:2310.07152; Ainsworth et al. 2023, arXiv:2209.04836, for matching
               by assignment; Schönemann 1966, doi:10.1007/BF02289451, for orthogonal
               maps. The application to keys of images is our own.
    """

    name: ClassVar[str] = "public-ancestor"
    needs_weights: ClassVar[bool] = True

    labelled: tuple[int, ...] = ()
    steps: int = 0
    rates: tuple[float, ...] = ()

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            labelled=budget.labelled,
            steps=budget.steps,
            rates=budget.adapter_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not has_ancestor(scene.public):
            return NO_FILE
        places = scene.once(public_places)
        return "" if places.matched else "; ".join(places.unmatched)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return the places of the key where no weights can be compared."""
        return scene.once(public_places).unmatched

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the match; and with labels, one that learns what the match left."""
        places = scene.once(public_places)
        numbers = sorted(self.labelled) if places.unknown(scene) else []
        learned = [Variant(LEARNED, n, n) for n in numbers if n <= len(scene.pool)]
        return [(one,) for one in (Variant(MATCHED, 0), *learned)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Match every place, learn the places without a match, and score the result."""
        places = scene.once(public_places)
        matched, unknown = places.condition(scene), places.unknown(scene)
        notes = () if places.alike >= ALIKE else ("ancestor-unlike",)
        for variant in group:
            if variant.name == MATCHED:
                yield Outcome(
                    attack=self.name,
                    variant=MATCHED,
                    rung="T5",
                    images=0,
                    labels=0,
                    queries=0,
                    counts=scene.referee(scene.stolen.model, matched),
                    converged=True,
                    notes=notes,
                )
                continue
            tried = [
                self._learn(scene, matched, unknown, variant.labels, rate)
                for rate in self.rates
            ]
            yield best_of_trained(
                scene,
                tried,
                self.name,
                variant,
                rung="T5",
                steps=self.steps,
                notes=notes,
            )

    def _learn(
        self,
        scene: Scene,
        matched: Condition,
        unknown: dict[str, int],
        number: int,
        rate: float,
    ) -> Trained:
        """Learn a matrix for every layer in `unknown`; the others are matched."""
        subject = scene.stolen.copy()
        new = {
            layer: FeatureAdapter(channels).to(subject.device)
            for layer, channels in unknown.items()
        }
        adapters = Adapters(LEARNED, None, new)
        features: dict[str, Change] = {**matched.features, **new}
        condition = replace(matched, features=features, transforms=None)
        lesson = Lesson(subset(scene.pool, number), self.steps, self.seed, scene.tick)
        settled = lesson.teach(subject, adapters.parameters(), condition, rate)
        return scene.referee(subject.model, condition), settled


def public_places(scene: Scene) -> Places:
    """Return what the public weights show of the key."""
    return Places.of(scene, scene.once(public_weights))


def public_weights(scene: Scene) -> dict[str, Tensor]:
    """Return the public weights, in the form of the stolen model, by its names.

    Weights that are not loaded differ between two builds, and are left out.
    """
    twins = [scene.new_model(scene.public, seed=seed) for seed in (1, 2)]
    for twin in twins:
        rewrite(twin.eval(), scene.public, scene.spec.block_size)
    first, second = (twin.state_dict() for twin in twins)
    own = scene.stolen.model.state_dict()
    return {
        name: value
        for name, value in first.items()
        if torch.equal(value, second[name])
        and name in own
        and own[name].shape == value.shape
    }
