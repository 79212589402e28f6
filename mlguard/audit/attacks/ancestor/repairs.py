"""Replace weights that fine-tuning cannot explain by the ancestor's.

Methods that hide a few weights, or cover all of them with a matrix of low rank, leave
the rest near the ancestor's. So improbable changes are the cover, and the ancestor
shows the weights under it, except for changes by fine-tuning. Columns are put in the
ancestor's order first (maps.py, `directions`).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.ancestor.maps import Matrix, directions
from mlguard.audit.attacks.ancestor.sites import IMAGE, sites_of, undone
from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.public_ancestor import NO_FILE, public_weights
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import readers

REPAIRED = "weights repaired"
IMPROBABLE = 6.0  # standard deviations of the change, from its median size
ROBUST = 1.4826  # a normal distribution's standard deviation over its median size


@dataclass(frozen=True)
class Repair(Attack):
    """Align stolen weights with the ancestor's, and repair every shared layer."""

    needs_weights: ClassVar[bool] = True

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the same attack for every budget."""
        return cls(seed=seed)

    @abstractmethod
    def repair(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return the weights under the cover. Shape: (n, d) twice to (n, d)."""

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not has_ancestor(scene.public):
            return NO_FILE
        if not scene.once(public_weights):
            return "the ancestor has no layer of this model"
        return ""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return the places of the key where no weights can be compared."""
        return scene.once(sites_of).unmatched

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        return [(Variant(REPAIRED, 0),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Repair all layers that the ancestor has."""
        sites = scene.once(sites_of).compared
        maps = {one.layer: directions(one.stolen, one.known) for one in sites}
        subject = scene.stolen.copy()
        self._repair_all(subject.model, lined_up(scene, maps))
        yield Outcome(
            attack=self.name,
            variant=REPAIRED,
            rung="T5",
            images=0,
            labels=0,
            queries=0,
            counts=scene.referee(subject.model, undone(scene, maps)),
            converged=True,
        )

    @torch.no_grad()
    def _repair_all(self, model: nn.Module, known: Mapping[str, Tensor]) -> None:
        own = model.state_dict()
        for name, value in known.items():
            if value.ndim < 2 or not value.is_floating_point():
                continue
            rows = own[name].double().cpu().flatten(1).numpy()
            repaired = self.repair(rows, value.double().flatten(1).numpy())
            own[name].copy_(torch.from_numpy(repaired).view_as(own[name]))


@dataclass(frozen=True)
class OutlierReplacement(Repair):
    """Where a weight's change is improbably large, take the ancestor's value.

    Adversary: has the weights, where the key acts, and the public weights.
    Budget:    a median for each layer; seconds.
    Success:   the correct key's score on other images.
    Limits:    undoes methods that change few weights by much. What fine-tuning itself
               changed by much is lost.
    Source:    the answer to NNSplitter (arXiv:2305.00097), AdvParams (arXiv:2105.13697)
               and AdaLoc (arXiv:2511.18772) that an ancestor allows; our own.
    """

    name: ClassVar[str] = "outlier-replacement"

    def repair(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return the stolen weights, or the ancestor's where changes are improbable."""
        change = np.abs(stolen - known)
        limit = IMPROBABLE * ROBUST * np.median(change)
        repaired: Matrix = np.where(change > limit, known, stolen)
        return repaired


@dataclass(frozen=True)
class LowRankRemoval(Repair):
    """Remove the low-rank part of the difference to the ancestor.

    Adversary: has the weights, where the key acts, and the public weights.
    Budget:    a singular value decomposition for each layer; seconds.
    Success:   the correct key's score on other images.
    Limits:    undoes covers of low rank. What fine-tuning changed along few directions
               is taken away too.
    Source:    against LoRO (NeurIPS 2025) and LoREnc (arXiv:2605.13163); the threshold
               is that of Gavish and Donoho 2014, arXiv:1305.5870.
    """

    name: ClassVar[str] = "low-rank-removal"

    def repair(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return the stolen weights without the outstanding directions."""
        left, sizes, right = np.linalg.svd(stolen - known, full_matrices=False)
        ratio = min(stolen.shape) / max(stolen.shape)
        noise = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
        cover = sizes > noise * np.median(sizes)
        return np.asarray(stolen - (left[:, cover] * sizes[cover]) @ right[cover])


def lined_up(scene: Scene, maps: Mapping[str, Matrix]) -> dict[str, Tensor]:
    """Return the public weights with their columns changed like the stolen ones'.

    A stem into which a key of images was folded is left out.
    """
    public, model = dict(scene.once(public_weights)), scene.stolen.model
    for layer, estimate in maps.items():
        for reader in readers(model, "" if layer == IMAGE else layer):
            names = [one for one in public if one.startswith(f"{reader}.")]
            for name in names:
                value = public.pop(name)
                if name == f"{reader}.weight" and layer != IMAGE:
                    matrix = torch.from_numpy(estimate).to(value)
                    public[name] = torch.einsum("ij,oj...->oi...", matrix, value)
    return public
