"""Match stolen weights with the public weights they come from, and read the key off."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.assignment import Order, assign, cosines
from mlguard.audit.attacks.base import Attack, Scene
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.guesses import GuessSpace
from mlguard.audit.attacks.stems import block_columns, stem_weight
from mlguard.audit.budgets import Budget
from mlguard.audit.outcomes import Outcome
from mlguard.models import fitting_weights, keyed, readers
from mlguard.transforms import ChannelPermutation, Transform, TransformSet

NO_FILE = (
    "no public ancestor of the weights is on this machine: neither does the recipe "
    "start from a .safetensors file, nor was one given with --ancestor"
)
ALIKE = 0.5  # mean cosine of matched weights; below this they are not relatives


@dataclass(frozen=True)
class PublicAncestor(Attack):
    """Pair the columns of a stolen layer with those of its public ancestor.

    A layer that reads what a key permutes has the columns of its ancestor in the key's
    order, up to what training changed; one that reads inverted values has them with
    the other sign.

    Adversary: has the weights, this code, and the public weights that training
               started from, or those of a plain model of the same owner; no image.
    Budget:    one assignment for each place where the key acts; seconds.
    Success:   the permutation found gives the correct key's score on other images.
    Limits:    finds what was folded into weights (`channels`, and stems bound to `shf`
               or `np`). A model that was trained under its key from public weights
               started from them unpermuted: its weights are like the ancestor's in
               another order than the key's, or unlike them. The control has no
               labels, so it is the floor, also where the ancestor itself is a whole
               model.
    Source:    the public-weight attacks on obfuscated models of Zhang et al. 2024,
               arXiv:2310.07152; Ainsworth et al. 2023, arXiv:2209.04836, for matching
               by assignment. The application to keys of images is our own.
    """

    name: ClassVar[str] = "public-ancestor"

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """The same in every budget."""
        return cls(seed=seed)

    def impossible(self, scene: Scene) -> str:
        """Why it cannot run on this model, in words; empty if it can."""
        if not has_ancestor(scene.model):
            return NO_FILE
        places = _Places.of(scene)
        return "" if places.matched else "; ".join(places.unmatched)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Places where the key acts and no weights can be compared."""
        return _Places.of(scene).unmatched

    def run(self, scene: Scene) -> Iterator[Outcome]:
        """Match every place, and use what was found."""
        places = _Places.of(scene)
        alike = min((one.alike for one in places.matched), default=0.0)
        condition = keyed(places.transforms(scene), scene.stolen.device)
        yield Outcome(
            attack=self.name,
            variant="matched columns",
            rung="T5",
            images=0,
            labels=0,
            queries=0,
            counts=scene.referee(scene.stolen.model, condition),
            converged=True,
            notes=() if alike >= ALIKE else ("ancestor-unlike",),
        )


@dataclass(frozen=True)
class _Match:
    """A permutation found at one place, "" for the image. Key material if right."""

    layer: str
    order: Order
    negative: NDArray[np.bool_]
    alike: float


@dataclass(frozen=True)
class _Places:
    """Where the key acts: what was matched, and what could not be, in words."""

    matched: tuple[_Match, ...]
    unmatched: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene) -> "_Places":
        public = fitting_weights(scene.stolen.model, scene.model)
        matched, unmatched = [], []
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

    def transforms(self, scene: Scene) -> TransformSet:
        image: Transform | None = None
        channels = []
        for one in self.matched:
            if one.layer:
                signs = np.where(one.negative, -1, 1).astype(np.float32)
                own = signs if scene.spec.signs else None
                channels.append(ChannelPermutation(one.layer, one.order, own))
            else:
                space = GuessSpace.of(scene.spec, None)
                image = space.transform(space.signed(one.order, one.negative))
        return TransformSet(image, tuple(channels))


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


def _match_stem(scene: Scene, public: dict[str, Tensor]) -> _Match | str:
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
    similarity = cosines(block_columns(stolen.weight, size), block_columns(plain, size))
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


def _columns(weight: Tensor) -> NDArray[np.float64]:
    """One row for each input channel. Shape: (O, C, …) to (C, O·…)."""
    values = weight.detach().double().cpu().transpose(0, 1).flatten(1)
    return np.asarray(values.numpy())
