"""Match stolen weights with the public weights they come from, and read the key off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.search.assignment import Order, assign, cosines
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.stem.stems import block_columns, stem_weight
from mlguard.audit.attacks.training.adapters import (
    MAX_LENGTH,
    Adapters,
    BlockAdapter,
    FeatureAdapter,
    feature_maps,
)
from mlguard.audit.attacks.training.learning import Lesson, Trained, best_of_trained
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import Condition, keyed, readers, rewrite
from mlguard.models.conditions import Change
from mlguard.transforms import ChannelPermutation, Transform, TransformSet

NO_FILE = (
    "no public ancestor of the weights is on this machine: neither does the recipe "
    "start from a .safetensors file, nor was one given with --ancestor"
)
MATCHED, LEARNED = "matched columns", "matched columns, adapters"
ALIKE = 0.5  # mean cosine of matched weights; below this they are not relatives


@dataclass(frozen=True)
class PublicAncestor(Attack):
    """Pair the columns of a stolen layer with those of its public ancestor.

    A layer that reads what a key permutes has the columns of its ancestor in the key's
    order, up to what training changed; one that reads inverted values has them with
    the other sign, and one that reads rotated blocks has them rotated. Where the
    ancestor has no layer that reads a feature map, as behind a head of its own, what
    the key did there is learned from labelled images, as a matrix.

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
        """The attack as strong as a budget allows."""
        return cls(
            seed=seed,
            labelled=budget.labelled,
            steps=budget.steps,
            rates=budget.adapter_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Why it cannot run on this model, in words; empty if it can."""
        if not has_ancestor(scene.public):
            return NO_FILE
        places = _Places.of(scene)
        return "" if places.matched else "; ".join(places.unmatched)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Places where the key acts and no weights can be compared."""
        return _Places.of(scene).unmatched

    def variants(self, scene: Scene) -> Sequence[Group]:
        """What was matched; and with labels, where that leaves something to learn."""
        numbers = sorted(self.labelled) if _Places.of(scene).unknown(scene) else []
        learned = [Variant(LEARNED, n, n) for n in numbers if n <= len(scene.pool)]
        return [(one,) for one in (Variant(MATCHED, 0), *learned)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Match every place, use what was found, and learn what was not."""
        places = _Places.of(scene)
        matched, unknown = places.condition(scene), places.unknown(scene)
        alike = min((one.alike for one in places.matched), default=0.0)
        notes = () if alike >= ALIKE else ("ancestor-unlike",)
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
        """Learn a matrix for every layer in `unknown`, the rest being matched."""
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


@dataclass(frozen=True)
class _Match:
    """A permutation found at one place, "" for the image. Key material if right."""

    layer: str
    order: Order
    negative: NDArray[np.bool_]
    alike: float


@dataclass(frozen=True)
class _Rotation:
    """An orthogonal map of centred blocks. Key material if right."""

    matrix: NDArray[np.float64]
    alike: float


@dataclass(frozen=True)
class _Places:
    """Where the key acts: what was matched, and what could not be, in words."""

    matched: tuple[_Match | _Rotation, ...]
    unmatched: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene) -> "_Places":
        public = public_weights(scene)
        matched: list[_Match | _Rotation] = []
        unmatched = []
        for layer in scene.spec.layers:
            found = _match_channels(scene, public, layer)
            if found is None:
                unmatched.append(f"layer {layer}: the ancestor has no layer after it")
            else:
                matched.append(found)
        if scene.spec.image_methods:
            stem = _match_stem(scene, public)
            if isinstance(stem, str):
                unmatched.append(f"the image transform: {stem}")
            else:
                matched.append(stem)
        return cls(tuple(matched), tuple(unmatched))

    def unknown(self, scene: Scene) -> dict[str, int]:
        """Permuted layers that nothing was matched for, and their channels."""
        known = {one.layer for one in self.matched if isinstance(one, _Match)}
        return {
            layer: channels
            for layer, channels in feature_maps(scene).items()
            if layer not in known and channels <= MAX_LENGTH
        }

    def condition(self, scene: Scene) -> Condition:
        """Do what was found, everywhere."""
        image: Transform | None = None
        adapter: BlockAdapter | None = None
        channels = []
        for one in self.matched:
            if isinstance(one, _Rotation):
                adapter = _adapter(one.matrix, scene)
            elif one.layer:
                signs = np.where(one.negative, -1, 1).astype(np.float32)
                own = signs if scene.spec.signs else None
                channels.append(ChannelPermutation(one.layer, one.order, own))
            else:
                space = GuessSpace.of(scene.spec, None)
                image = space.transform(space.signed(one.order, one.negative))
        found = keyed(TransformSet(image, tuple(channels)), scene.stolen.device)
        return (
            found if adapter is None else replace(found, image=adapter, transforms=None)
        )


def public_weights(scene: Scene) -> dict[str, Tensor]:
    """The public weights, in the form that the stolen model has, by its names.

    What is not loaded from them differs between two builds, and is left out.
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


def _match_channels(
    scene: Scene, public: dict[str, Tensor], layer: str
) -> _Match | None:
    """Compare the input columns of the layers that read a feature map."""
    own = scene.stolen.model.state_dict()
    names = [f"{reader}.weight" for reader in readers(scene.stolen.model, layer)]
    names = [name for name in names if name in public]
    if not names:
        return None
    stolen, plain = (
        np.concatenate([_columns(weights[name]) for name in names], axis=1)
        for weights in (own, public)
    )
    return _match(layer, cosines(stolen, plain), signed=scene.spec.signs)


def _match_stem(scene: Scene, public: dict[str, Tensor]) -> _Match | _Rotation | str:
    """Compare the columns of the layer that reads whole blocks."""
    methods, size = scene.spec.image_methods, scene.spec.block_size
    if "ffx" in methods:
        return "what ffx does is a table and is in no weight"
    stolen = stem_weight(scene.stolen.model, size)
    if stolen is None:
        return "no layer reads whole blocks of the image, so nothing was folded"
    plain = stolen.in_ancestor(public)
    if plain is None:
        return f"the ancestor has no {stolen.name}"
    std = scene.stolen.normalization.std
    own, public_columns = (
        block_columns(weight, size, std) for weight in (stolen.weight, plain)
    )
    if methods == ("orthogonal",):
        return _rotation(own, public_columns)
    similarity = cosines(own, public_columns)
    if "shf" not in methods:
        similarity = np.diag(np.diag(similarity))
    return _match("", similarity, signed="np" in methods, fixed="shf" not in methods)


def _match(
    layer: str, similarity: NDArray[np.float64], *, signed: bool, fixed: bool = False
) -> _Match:
    """Pair columns; with signs, by the absolute value of their cosine."""
    likeness = np.abs(similarity) if signed else similarity
    order = np.arange(len(similarity)) if fixed else assign(likeness)
    matched = similarity[np.arange(len(order)), order]
    alike = float(np.mean(np.abs(matched) if signed else matched))
    return _Match(layer, order, (matched < 0) & signed, alike)


def _rotation(stolen: NDArray[np.float64], plain: NDArray[np.float64]) -> _Rotation:
    """The rotation after which a stolen stem does what the plain one does."""
    left, _, right = np.linalg.svd(stolen @ plain.T)
    matrix = left @ right
    turned = cosines(matrix.T @ stolen, plain)
    return _Rotation(matrix, float(np.diag(turned).mean()))


def _adapter(matrix: NDArray[np.float64], scene: Scene) -> BlockAdapter:
    """Rotate blocks around mid-grey, which `orthogonal` leaves where it is."""
    adapter = BlockAdapter(scene.spec.block_size)
    with torch.no_grad():
        adapter.matrix.copy_(torch.from_numpy(matrix))
        adapter.offset.copy_(torch.from_numpy(0.5 - 0.5 * matrix.sum(1)))
    return adapter.to(scene.stolen.device).requires_grad_(False)


def _columns(weight: Tensor) -> NDArray[np.float64]:
    """One row for each input channel. Shape: (O, C, …) to (C, O·…)."""
    values = weight.detach().double().cpu().transpose(0, 1).flatten(1)
    return np.asarray(values.numpy())
