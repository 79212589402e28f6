"""Add an attack: show the stolen model images in a mirror, and see what it still gives.

    python docs/examples/add_attack.py

To ship one, it goes into mlguard/audit/attacks/ with a row in registry.py and a name in
mlguard/rules.py; the contract test then finds it and checks what every attack promises.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from mlguard.audit.attacks import Leaks, Pool, Scene, SplitReferee
from mlguard.audit.attacks.base import Attack, Group, Variant
from mlguard.audit.findings import Budget, Outcome
from mlguard.audit.target import Subject
from mlguard.data import open_split
from mlguard.keys import ModelKey
from mlguard.models import Condition, Normalization, build_model
from mlguard.recipe import read_recipe
from mlguard.transforms import TransformSet, derive_transform


def upside_down(images: Tensor) -> Tensor:
    """Turn images. Shape: (N, 3, H, W) to the same."""
    return images.flip(-2)


@dataclass(frozen=True)
class Mirror(Attack):
    """Turn every image upside down, in the hope that the key did nothing of the kind.

    Adversary: T0, has the weights and no key.
    Budget:    one prediction of the audited images.
    Success:   more than plain images give.
    Limits:    there is no reason why it should work; it is an example.
    """

    name: ClassVar[str] = "mirror"

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """No budget makes it stronger."""
        return cls(seed=seed)

    def impossible(self, scene: Scene) -> str:
        """It runs on every model of images."""
        return ""

    def variants(self, scene: Scene) -> Sequence[Group]:
        """It has one form, and needs no images of its own."""
        return [(Variant("upside down", 0),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Have the referee count; the adversary never sees the audited images."""
        for variant in group:
            condition = Condition(lambda images: upside_down(images) / 255)
            yield Outcome(
                attack=self.name,
                variant=variant.name,
                rung="T0",
                images=0,
                labels=0,
                queries=0,
                counts=scene.referee(scene.stolen.model, condition),
                converged=True,
            )


recipe = read_recipe("demo", overrides=["data.shapes_images=[8, 4, 4]"])
own, test = (
    open_split(recipe.data, None, split, seed=0) for split in ("validation", "test")
)
model = build_model(recipe.model, recipe.data.classes).eval()  # yours, trained
stolen = Subject(model, Normalization(), torch.device("cpu"))
key = ModelKey.generate().for_model(bytes(16))
scene = Scene(
    stolen=stolen,
    spec=recipe.transform,
    model=None,
    task=own.task,
    pool=Pool.draw(own, 4, seed=0),
    leaks=Leaks(TransformSet(derive_transform(["shf"], key, 4))),
    referee=SplitReferee(stolen, test, 4),
)
attack = Mirror(seed=0)
for group in attack.variants(scene):
    for outcome in attack.run(scene, group):
        print(outcome.variant, f"{scene.task.score_of(outcome.counts):.3f} mIoU")
