"""Use the model without its key, or with random keys, in slightly better ways."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.reasons import NO_IMAGE_METHOD
from mlguard.audit.attacks.search.guesses import SEARCHED, GuessSpace
from mlguard.audit.findings import Budget, Outcome, Rung
from mlguard.data.draws import Draws
from mlguard.models import NO_KEY, Condition, keyed
from mlguard.models.conditions import cut, join, plain
from mlguard.rules import BLOCK_SIZES, BYTE_MAX
from mlguard.transforms import TransformSet

MATCHED, METHOD, SIZE = "gain-matched", "another method", "another block size"
OPENED = "the opened model"

_DRAWS = 0x0DD5  # keeps these draws apart from those of a search


@dataclass(frozen=True)
class WithoutKey(Attack):
    """Give the model images that resemble transformed ones more than plain ones do.

    They are gain-matched: for `ffx` darkened like the values that it does not encrypt,
    for `np` inverted, for `shf` every block as its mean. Besides, random keys of
    another method or block size are tried: some models depend on these less than they
    should.

    A model that is only encrypted gets plain images, once it is open.

    Adversary: T0, has no key and knows the method; T1, tries random keys; T2, took the
               opened model from memory.
    Budget:    one try for each gain-matched form; `tries` random keys for each other
               method and block size.
    Success:   more than plain images and random keys of the right kind give.
    Limits:    the best of the tries counts, judged on the audited images, as for the
               random keys of the audit itself.
    Source:    our own; the published test, random keys of the right kind, is
               arXiv:2107.09362, section 3.3.

    Attributes:
        tries: The number of random keys of each kind.
    """

    name: ClassVar[str] = "without-key"
    tries: int = 4

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack with as many tries as a step-by-step search has starts."""
        return cls(seed=seed, tries=budget.starts)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        spec = scene.spec
        inside = (spec.layers or spec.keys_norms) and not spec.image_methods
        return NO_IMAGE_METHOD if inside else ""

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return every form for the methods of a scene."""
        if not scene.spec.image_methods:
            return [(Variant(OPENED, 0),)]
        forms = {
            MATCHED: gain_matched(scene),
            METHOD: _other_methods(scene),
            SIZE: _other_sizes(scene),
        }
        return [(Variant(name, 0),) for name, some in forms.items() if some]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Yield the best of the tries of each form."""
        for variant in group:
            if variant.name == OPENED:
                yield self._best(scene, OPENED, "T2", [NO_KEY])
            elif variant.name == MATCHED:
                matched = [Condition(one) for one in gain_matched(scene)]
                yield self._best(scene, MATCHED, "T0", matched)
            else:
                other = _other_methods if variant.name == METHOD else _other_sizes
                conditions = self._random(scene, *other(scene))
                yield self._best(scene, variant.name, "T1", conditions)

    def _random(self, scene: Scene, *spaces: GuessSpace) -> list[Condition]:
        conditions = []
        for number, space in enumerate(spaces):
            for index in range(self.tries):
                guess = space.draw(Draws(_DRAWS, self.seed, number, index))
                transforms = TransformSet(space.transform(guess))
                conditions.append(keyed(transforms, scene.stolen.device))
        return conditions

    def _best(
        self, scene: Scene, variant: str, rung: Rung, conditions: list[Condition]
    ) -> Outcome:
        model = scene.stolen.model
        tried = [scene.referee(model, condition) for condition in conditions]
        known = scene.leaks.table() is not None
        return Outcome(
            attack=self.name,
            variant=variant,
            rung=rung,
            images=0,
            labels=0,
            queries=0,
            counts=max(tried, key=scene.task.score_of),
            converged=True,
            notes=("table-assumed-known",) if known else (),
        )


def gain_matched(scene: Scene) -> list[Callable[[Tensor], Tensor]]:
    """Return the gain-matched forms for the methods of a scene."""
    size, table = scene.spec.block_size, scene.leaks.table()
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "np": lambda images: 1 - plain(images),
        "shf": lambda images: _means(images, size),
    }
    if table is not None:
        gain = BYTE_MAX / float(table.max())
        forms["ffx"] = lambda images: gain * plain(images)
    return [forms[one] for one in scene.spec.image_methods if one in forms]


def _means(images: Tensor, block_size: int) -> Tensor:
    """Replace every block by its mean. Shape: (N, 3, H, W) to (N, 3, H, W)."""
    blocks = cut(plain(images), block_size)
    means = blocks.mean(-1, keepdim=True).expand_as(blocks)
    return join(means, block_size, images.shape[-2:])


def _other_methods(scene: Scene) -> list[GuessSpace]:
    """Return single methods other than the model's; `ffx` needs a table."""
    own, table = scene.spec.image_methods, scene.leaks.table()
    known = table is not None
    others = [one for one in SEARCHED if known or one != "ffx"]
    others = [one for one in others if (one,) != own]
    return [GuessSpace((one,), scene.spec.block_size, table) for one in others]


def _other_sizes(scene: Scene) -> list[GuessSpace]:
    """Return the methods with blocks of half and twice the size, if they fit."""
    own, table = scene.spec.image_methods, scene.leaks.table()
    if set(own) - set(SEARCHED):
        return []
    size = scene.spec.block_size
    return [
        GuessSpace(own, other, table)
        for other in (size // 2, size * 2)
        if other in BLOCK_SIZES
        and not any(side % other for side in scene.pool.images.shape[-2:])
    ]
