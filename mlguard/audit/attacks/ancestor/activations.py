"""Train matrices that replace the key to reproduce the ancestor's feature maps.

Weights reveal nothing if a key was never folded into them, as after training under
`shf`, `np` or `ffx`. But a fine-tuned model still answers much like its ancestor, layer
by layer: a matrix that makes it do so on plain images replaces the key.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from mlguard.audit.attacks.ancestor.maps import directions, explained
from mlguard.audit.attacks.ancestor.sites import sites_of, undone
from mlguard.audit.attacks.base import Attack, Group, Pool, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.public_ancestor import ALIKE, NO_FILE, public_weights
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.training.adapters import Adapters, too_large
from mlguard.audit.attacks.training.learning import BATCH, settled
from mlguard.audit.findings import Budget, Outcome
from mlguard.data.draws import Draws
from mlguard.models import NO_KEY, Condition, Normalization, output_of, rewrite
from mlguard.models.conditions import Change

IMITATED = "feature maps imitated"
NOTHING_SHARED = (
    "the ancestor and the stolen model have no layer with weights in common"
)

FINER = (0.1, 1.0)  # of the rates for an adapter: here it begins near its end

_DRAWS = 0xAC71  # keeps these draws apart from those of other trainings


@dataclass(frozen=True)
class ActivationMatching(Attack):
    """Learn the key's transforms from feature maps of stolen and public models.

    Adversary: has the weights, where the key acts, the public weights, and images
               without labels.
    Budget:    `steps` steps of 16 images at every learning rate, in both models.
    Success:   the correct key's score on other images.
    Limits:    matrices begin where weights match by direction, and else as the
               identity, from which a permutation of hundreds of channels is not
               reached in so few steps. What imitates best counts, where it began
               included. Nothing is learned behind the last layer that
               the ancestor has.
    Source:    activation matching of Ainsworth et al. 2023, arXiv:2209.04836; against
               shuffled activations, arXiv:2605.04901. The application is our own.

    Attributes:
        unlabelled: The number of images.
        steps: The steps of each training.
        rates: The learning rates; the one that imitates best counts.
    """

    name: ClassVar[str] = "activation-matching"
    needs_weights: ClassVar[bool] = True
    unlabelled: int = 16
    steps: int = 100
    rates: tuple[float, ...] = (1e-2,)

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            unlabelled=budget.unlabelled,
            steps=budget.steps,
            rates=tuple(sorted({r * by for r in budget.adapter_rates for by in FINER})),
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not has_ancestor(scene.public):
            return NO_FILE
        if why := too_large(scene):
            return why
        return "" if shared_layers(scene) else NOTHING_SHARED

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        return [(Variant(IMITATED, min(self.unlabelled, len(scene.pool))),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Train at every rate, and keep the best imitation."""
        (variant,) = group
        pool = subset(scene.pool, variant.images)
        pair, begun = Imitation(scene), started(scene).condition
        tried = [(pair.look(pool, begun), True, begun)]
        tried += [self._imitate(scene, pair, pool, rate) for rate in self.rates]
        _, done, found = min(tried, key=lambda one: one[0])
        looks = len(tried) * -(-len(pool) // BATCH)
        yield Outcome(
            attack=self.name,
            variant=IMITATED,
            rung="T5",
            images=variant.images,
            labels=0,
            queries=(len(self.rates) * self.steps + looks) * BATCH,
            counts=scene.referee(scene.stolen.model, found),
            converged=done,
        )

    def _imitate(
        self, scene: Scene, pair: "Imitation", pool: Pool, rate: float
    ) -> tuple[float, bool, Condition]:
        """Return the final distance of feature maps, whether it settled, and how."""
        adapters = started(scene)
        optimizer = torch.optim.AdamW(adapters.parameters(), lr=rate, weight_decay=0.0)
        losses = []
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / self.steps)
            draws = Draws(_DRAWS, self.seed, step)
            rows = [draws.between(0, len(pool) - 1) for _ in range(BATCH)]
            scene.tick(BATCH)
            loss = pair.apart(pool.images[rows], adapters.condition)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        scene.tick(len(pool))
        condition = adapters.condition
        return pair.look(pool, condition), settled(losses), condition


class Imitation:
    """The stolen model and its ancestor, compared at the layers that they share."""

    def __init__(self, scene: Scene) -> None:
        self._subject = scene.stolen.copy()
        self._layers = shared_layers(scene)
        public = scene.new_model(scene.public, seed=0).eval()
        rewrite(public, scene.public, scene.spec.block_size)
        self._public = public.to(scene.stolen.device).requires_grad_(False)

    def apart(self, images: Tensor, condition: Condition) -> Tensor:
        """Return the squared distance of maps, as a share of the ancestor's variance.

        Shape:
            images   (N, 3, H, W) uint8
            returns  ()
        """
        images = images.to(self._subject.device)
        normalization = self._subject.normalization
        with torch.no_grad():
            known = self._seen(self._public, images, NO_KEY, normalization)
        own = self._seen(self._subject.model, images, condition, normalization)
        shares = [
            (own[name] - value).square().mean() / value.var().clamp(min=1e-12)
            for name, value in known.items()
        ]
        return torch.stack(shares).mean()

    @torch.no_grad()
    def look(self, pool: Pool, condition: Condition) -> float:
        """The mean distance over a pool; lower is better."""
        parts = torch.split(pool.images, BATCH)
        total = [float(self.apart(part, condition)) * len(part) for part in parts]
        return sum(total) / len(pool)

    def _seen(
        self,
        model: nn.Module,
        images: Tensor,
        condition: Condition,
        normalization: Normalization,
    ) -> Mapping[str, Tensor]:
        with _watched(model, self._layers) as seen:
            output_of(model, images, condition, normalization)
        return seen


def shared_layers(scene: Scene) -> tuple[str, ...]:
    """Return the layers with weights from the public file."""
    public = scene.once(public_weights)
    return tuple(
        name
        for name, layer in scene.stolen.model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and f"{name}.weight" in public
    )


def started(scene: Scene) -> Adapters:
    """Return adapters that start from matched weights, otherwise from the identity."""
    adapters = Adapters.of(scene)
    maps = {}
    for site in scene.once(sites_of).compared:
        estimate = directions(site.stolen, site.known)
        if explained(site.stolen, site.known, estimate) >= ALIKE:
            maps[site.layer] = estimate
    found = undone(scene, maps)
    for name, known in found.features.items():
        _begin(adapters.features[name], known)
    if adapters.image is not None:
        _begin(adapters.image, found.image)
    return adapters


def _begin(adapter: nn.Module, known: Change) -> None:
    if isinstance(known, nn.Module):  # and not images as they are
        adapter.load_state_dict(known.state_dict())


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def hook(name: str, output: Tensor) -> None:
        seen[name] = output

    layers = dict(model.named_modules())
    hooks = [
        layers[name].register_forward_hook(
            lambda _layer, _inputs, output, name=name: hook(name, output)
        )
        for name in names
    ]
    try:
        yield seen
    finally:
        for one in hooks:
            one.remove()
