"""The places where a key acts, with stolen and known columns, and undoing a map there.

The code uses where the key acts, but not how: it also attacks methods that mix channels
in other ways than today's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from mlguard.audit.attacks.ancestor.maps import Matrix, inverse
from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.places import channel_columns, stem_columns
from mlguard.audit.attacks.public_ancestor import public_weights
from mlguard.audit.attacks.reasons import nothing_moved
from mlguard.audit.attacks.training.adapters import BlockAdapter, FeatureAdapter
from mlguard.models import Condition
from mlguard.models.conditions import Change, plain

IMAGE = ""  # the name of the place where the image is


@dataclass(frozen=True)
class Site:
    """One place: the columns of the stolen layer and of the ancestor's, by channel.

    Shape:
        stolen, known  (n, d), a row for each channel or position of a block
    """

    layer: str
    stolen: Matrix = field(repr=False)
    known: Matrix = field(repr=False)


@dataclass(frozen=True)
class Sites:
    """Every place that can be compared, and in words those that cannot."""

    compared: tuple[Site, ...]
    unmatched: tuple[str, ...]


def sites_of(scene: Scene) -> Sites:
    """Find the places where the key acts, and their columns."""
    public = scene.once(public_weights)
    compared, unmatched = [], []
    if why := nothing_moved(scene.spec):
        unmatched.append(why)
    found = {one: channel_columns(scene, public, one) for one in scene.spec.layers}
    if scene.spec.image_methods:
        found[IMAGE] = stem_columns(scene, public)
    for layer, pair in found.items():
        if isinstance(pair, str):
            unmatched.append(pair)
        else:
            compared.append(Site(layer, *pair))
    return Sites(tuple(compared), tuple(unmatched))


def undone(scene: Scene, maps: Mapping[str, Matrix]) -> Condition:
    """Return the condition that applies, before each layer, the map of its columns.

    Columns that became `M @ columns` expect values that became `inverse(M).T @ values`;
    those of an image around mid-grey.

    Args:
        scene: The scene with the model.
        maps: An estimate of M by layer, IMAGE for the image.
    """
    image: Change = plain
    features: dict[str, Change] = {}
    for layer, estimate in maps.items():
        matrix = torch.from_numpy(inverse(estimate).T).float()
        adapter: BlockAdapter | FeatureAdapter
        if layer == IMAGE:
            adapter = image = BlockAdapter(scene.spec.block_size)
            with torch.no_grad():
                adapter.offset.copy_(0.5 - 0.5 * matrix.sum(1))
        else:
            adapter = features[layer] = FeatureAdapter(len(matrix))
        with torch.no_grad():
            adapter.matrix.copy_(matrix)
        adapter.to(scene.stolen.device).requires_grad_(False)
    return Condition(image, features)
