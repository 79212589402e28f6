"""Rebuild the initial weights, and read the key off their traces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mlguard import recipe
from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.places import Places
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import rewrite

REBUILT = "rebuilt weights"
MIN_ROWS = 8  # weights of the layer that tells seeds apart
UNLIKE = 6.0  # standard deviations of chance; none of 10,000 seeds reaches it


@dataclass(frozen=True)
class KnownInitialization(Attack):
    """Draw the initial weights of every small seed, and pair columns with the best.

    A layer whose inputs a key permutes, inverts or rotates keeps the cosines between
    its rows: these reveal the seed of the initial weights, whatever the key. The
    initial weights of that seed are then an ancestor, up to what training changed.

    Adversary: T2: has the weights, the recipe and this code; no image.
    Budget:    one draw of the initial weights for each of `seeds` seeds, from 0;
               then one assignment for each place where the key acts.
    Success:   the permutation found gives the correct key's score on other images.
    Limits:    finds what is folded into weights, as `public-ancestor` does, in models
               whose initialization torch drew from a seed below `seeds`, with the
               installed release on a CPU. A long training leaves little of it.
    Source:    our own; matching by assignment as in Ainsworth et al. 2023,
               arXiv:2209.04836.

    Attributes:
        seeds: The number of seeds.
    """

    name: ClassVar[str] = "known-initialization"
    needs_weights: ClassVar[bool] = True
    seeds: int = 10_000

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(seed=seed, seeds=budget.initial_seeds)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        places = scene.once(_any_places)
        return "" if places.matched else "; ".join(places.unmatched)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return the places of the key where no weights can be compared."""
        return scene.once(_any_places).unmatched

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        return [(Variant(REBUILT, 0),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Find the seed, match every place, and score the result."""
        seed, certainty = likeliest_seed(scene, self.seeds)
        places = Places.of(scene, initial_weights(scene, seed))
        yield Outcome(
            attack=self.name,
            variant=REBUILT,
            rung="T2",
            images=0,
            labels=0,
            queries=0,
            counts=scene.referee(scene.stolen.model, places.condition(scene)),
            converged=True,
            notes=() if certainty > UNLIKE else ("initialization-unlike",),
        )


def _any_places(scene: Scene) -> Places:
    """Return where initial weights can be compared, whatever their seed."""
    return Places.of(scene, initial_weights(scene, 0))


def initial_weights(scene: Scene, seed: int) -> Mapping[str, Tensor]:
    """Return the initial weights of a seed, in the form of the stolen model."""
    own = scene.stolen.model.state_dict()
    model = scene.new_model(_start(scene), seed=seed).eval()
    state = rewrite(model, scene.public, scene.spec.block_size).state_dict()
    return {
        name: value
        for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }


def likeliest_seed(scene: Scene, seeds: int) -> tuple[int, float]:
    """Find the seed whose initial weights are most like the stolen ones.

    Returns:
        The seed, and by how many standard deviations of chance its weights are like
        those: below some 5 nothing was found.
    """
    name, draws = _told_apart_by(scene)
    if draws is None:
        return 0, 0.0
    stolen = _signature(scene.stolen.model.state_dict()[name])
    likeness = torch.stack(
        [stolen @ _signature(draws.tensor(seed)) for seed in range(seeds)]
    )
    best = int(likeness.argmax())
    return best, float(likeness[best]) * stolen.numel() ** 0.5


def _told_apart_by(scene: Scene) -> tuple[str, "Draws | None"]:
    """Return the first drawn layer of those that a key leaves comparable."""
    recorder = _Recorder()
    with recorder:
        model = scene.new_model(_start(scene), seed=0)
    own, found = scene.stolen.model.state_dict(), []
    for name, value in model.state_dict().items():
        last = recorder.last(value)
        same = name in own and own[name].shape == value.shape
        if last is None or not same or value.ndim < 2 or len(value) < MIN_ROWS:
            continue
        draws = Draws(recorder.calls[: last + 1])
        if torch.equal(draws.tensor(0), value):  # as drawn, not changed afterwards
            found.append((last, name, draws))
    if not found:
        return "", None
    _, name, draws = min(found, key=lambda one: one[0])
    return name, draws


def _start(scene: Scene) -> recipe.Model:
    """Return the recipe's [model] section, without weights missing on this machine."""
    if has_ancestor(scene.public):
        return scene.public
    return scene.public.model_copy(update={"weights": "none"})


def _signature(weight: Tensor) -> Tensor:
    """Return the cosines between centred rows, which no key of columns changes."""
    rows = nn.functional.normalize(weight.detach().cpu().double().flatten(1), dim=1)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    cosines = (rows @ rows.T)[first, second]
    return nn.functional.normalize(cosines - cosines.mean(), dim=0)


@dataclass(frozen=True)
class Draws:
    """The random numbers of an initialization, up to those of one tensor."""

    calls: Sequence[tuple[Any, torch.Size, tuple[Any, ...]]]

    def tensor(self, seed: int) -> Tensor:
        """Return the tensor of a seed, without the rest of the model."""
        generator = torch.Generator().manual_seed(seed)
        for draw, shape, arguments in self.calls:
            blank = torch.empty(shape)
            draw(blank, *arguments, generator=generator)
        return blank


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A record of the tensors filled at random while a model is built."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, torch.Size, tuple[Any, ...]]] = []
        self._places: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        aten = torch.ops.aten
        if func in (aten.uniform_.default, aten.normal_.default):
            self._places[args[0].data_ptr()] = len(self.calls)
            self.calls.append((func, args[0].shape, tuple(args[1:])))
        return func(*args, **(kwargs or {}))

    def last(self, tensor: Tensor) -> int | None:
        """Return the last call that filled a tensor."""
        return self._places.get(tensor.data_ptr())
