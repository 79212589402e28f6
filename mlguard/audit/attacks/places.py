"""Compare stolen weights with known ones where the key acts, and read the key off.

A layer that reads permuted values has the columns of the known weights in the key's
order, up to changes by training; one that reads inverted values has them with the
opposite sign, and one that reads rotated blocks has them rotated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.reasons import FFX_IN_NO_WEIGHT, nothing_moved
from mlguard.audit.attacks.search.assignment import Order, assign, cosines
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.stem.stems import block_columns, stem_weight
from mlguard.audit.attacks.training.adapters import (
    MAX_LENGTH,
    BlockAdapter,
    feature_maps,
)
from mlguard.models import Condition, keyed, readers
from mlguard.transforms import ChannelPermutation, Transform, TransformSet

Pair = tuple[NDArray[np.float64], NDArray[np.float64]] | str


@dataclass(frozen=True)
class Match:
    """A permutation found at one place, "" for the image: key material if right."""

    layer: str
    order: Order = field(repr=False)
    negative: NDArray[np.bool_] = field(repr=False)
    alike: float


@dataclass(frozen=True)
class Rotation:
    """An orthogonal map of centred blocks: key material if right."""

    matrix: NDArray[np.float64] = field(repr=False)
    alike: float


@dataclass(frozen=True)
class Places:
    """The places where the key acts: matches, and places that could not be matched."""

    matched: tuple[Match | Rotation, ...]
    unmatched: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene, public: Mapping[str, Tensor]) -> "Places":
        """Compare the stolen weights with others, wherever the key acts.

        Args:
            scene: The scene with the stolen weights.
            public: The other weights, in the form of the stolen model, by its names.
        """
        matched: list[Match | Rotation] = []
        unmatched = []
        if why := nothing_moved(scene.spec):
            unmatched.append(why)
        for layer in scene.spec.layers:
            pair = channel_columns(scene, public, layer)
            if isinstance(pair, str):
                unmatched.append(pair)
            else:
                signed = scene.spec.signs
                matched.append(_match(layer, cosines(*pair), signed=signed))
        if scene.spec.image_methods:
            pair = stem_columns(scene, public)
            if isinstance(pair, str):
                unmatched.append(pair)
            else:
                matched.append(_match_stem(scene.spec.image_methods, *pair))
        return cls(tuple(matched), tuple(unmatched))

    @property
    def alike(self) -> float:
        """The mean cosine of the weights, where they are least alike."""
        return min((one.alike for one in self.matched), default=0.0)

    def unknown(self, scene: Scene) -> dict[str, int]:
        """Return the permuted layers without a match, and their channels."""
        known = {one.layer for one in self.matched if isinstance(one, Match)}
        return {
            layer: channels
            for layer, channels in feature_maps(scene).items()
            if layer not in known and channels <= MAX_LENGTH
        }

    def condition(self, scene: Scene) -> Condition:
        """Return the condition that applies all matches."""
        image: Transform | None = None
        adapter: BlockAdapter | None = None
        channels = []
        for one in self.matched:
            if isinstance(one, Rotation):
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


def channel_columns(scene: Scene, public: Mapping[str, Tensor], layer: str) -> Pair:
    """The input columns of the layers that read a feature map, stolen and known.

    Returns:
        A pair of arrays, or why there is none, in words.

    Shape:
        returns  (C, O·…) each, a row for each channel
    """
    own = scene.stolen.model.state_dict()
    names = [f"{reader}.weight" for reader in readers(scene.stolen.model, layer)]
    names = [name for name in names if name in public]
    if not names:
        return f"layer {layer}: the ancestor lacks the layer after it"
    stolen, plain = (
        np.concatenate([_columns(weights[name]) for name in names], axis=1)
        for weights in (own, public)
    )
    return stolen, plain


def stem_columns(scene: Scene, public: Mapping[str, Tensor]) -> Pair:
    """The columns of the layer that reads whole blocks, stolen and known.

    Returns:
        A pair of arrays, or why there is none, in words.

    Shape:
        returns  (L, O·h·w) each, a row for each position of a block
    """
    methods, size = scene.spec.image_methods, scene.spec.block_size
    where = "the image transform: "
    if "ffx" in methods:
        return where + FFX_IN_NO_WEIGHT
    stolen = stem_weight(scene.stolen.model, size)
    if stolen is None:
        return where + "no layer reads whole blocks of the image, so nothing was folded"
    plain = stolen.in_ancestor(public)
    if plain is None:
        return f"{where}the ancestor lacks {stolen.name}"
    std = scene.stolen.normalization.std
    own, known = (block_columns(one, size, std) for one in (stolen.weight, plain))
    return own, known


def _match_stem(
    methods: tuple[str, ...], own: NDArray[np.float64], known: NDArray[np.float64]
) -> Match | Rotation:
    """Compare the columns of the layer that reads whole blocks."""
    if methods == ("orthogonal",):
        return _rotation(own, known)
    similarity = cosines(own, known)
    if "shf" not in methods:
        similarity = np.diag(np.diag(similarity))
    return _match("", similarity, signed="np" in methods, fixed="shf" not in methods)


def _match(
    layer: str, similarity: NDArray[np.float64], *, signed: bool, fixed: bool = False
) -> Match:
    """Pair columns; with signs, by the absolute value of their cosine."""
    likeness = np.abs(similarity) if signed else similarity
    order = np.arange(len(similarity)) if fixed else assign(likeness)
    matched = similarity[np.arange(len(order)), order]
    alike = float(np.mean(np.abs(matched) if signed else matched))
    return Match(layer, order, (matched < 0) & signed, alike)


def _rotation(stolen: NDArray[np.float64], plain: NDArray[np.float64]) -> Rotation:
    """Return the rotation that makes a stolen stem compute like the plain one."""
    left, _, right = np.linalg.svd(stolen @ plain.T)
    matrix = left @ right
    turned = cosines(matrix.T @ stolen, plain)
    return Rotation(matrix, float(np.diag(turned).mean()))


def _adapter(matrix: NDArray[np.float64], scene: Scene) -> BlockAdapter:
    """Return an adapter that rotates blocks around mid-grey."""
    adapter = BlockAdapter(scene.spec.block_size)
    with torch.no_grad():
        adapter.matrix.copy_(torch.from_numpy(matrix))
        adapter.offset.copy_(torch.from_numpy(0.5 - 0.5 * matrix.sum(1)))
    return adapter.to(scene.stolen.device).requires_grad_(False)


def _columns(weight: Tensor) -> NDArray[np.float64]:
    """Return one row for each input channel. Shape: (O, C, …) to (C, O·…)."""
    values = weight.detach().double().cpu().transpose(0, 1).flatten(1)
    return np.asarray(values.numpy())
