"""Incorrect keys: drawn at random, the same ones for the same seed.

Each is a full model key, and what it does to an image is derived for this model just
as the correct key's transform is. The draw starts from a subkey of the correct key:
if it started from the public seed alone, any reader of the report could compute the
key that scored best, and the report would hand it out.
docs/spec/audit-v1.md, section 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlguard import recipe
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.transforms import TransformSet
from mlguard.transforms.nearby import changed_share, nearby, same


def incorrect_key(subkeys: ModelSubkeys, *, seed: int, index: int) -> ModelKey:
    """Draw one incorrect key.

    Args:
        subkeys: Of the audited model under its correct key.
        seed: The audit's seed.
        index: Which of the seed's keys, from 0.
    """
    return ModelKey(subkeys.derive(f"audit/seed={seed}/incorrect-key={index}"))


def incorrect_transforms(
    derive: Callable[[ModelSubkeys], TransformSet],
    subkeys: ModelSubkeys,
    *,
    seed: int,
    number: int,
) -> list[TransformSet]:
    """Derive what the incorrect keys do for this model.

    Args:
        derive: What a key's subkeys for this model do; `Run.derive`.
        subkeys: Of the audited model under its correct key.
        seed: The audit's seed.
        number: How many keys.
    """
    keys = (incorrect_key(subkeys, seed=seed, index=i) for i in range(number))
    return [derive(key.for_model(subkeys.protection_id)) for key in keys]


@dataclass(frozen=True)
class AuditTransforms:
    """What every key of an audit does to an image. Key material: never written.

    Attributes:
        correct: The model's own.
        incorrect: One for each incorrect key.
        nearby: For each share, transforms that differ from the correct one by it.
    """

    correct: TransformSet
    incorrect: Sequence[TransformSet]
    nearby: Sequence[tuple[float, Sequence[TransformSet]]]

    @classmethod
    def derive(
        cls,
        correct: TransformSet,
        derive: Callable[[ModelSubkeys], TransformSet],
        subkeys: ModelSubkeys,
        settings: recipe.Audit,
    ) -> "AuditTransforms":
        """Derive them all; the same seed gives the same ones."""
        seed = settings.seed
        incorrect = incorrect_transforms(
            derive, subkeys, seed=seed, number=settings.incorrect_keys
        )
        curve = []
        for share in sorted(set(settings.nearby)):
            uses = [
                f"audit/seed={seed}/nearby={share}/{index}"
                for index in range(settings.nearby_keys)
            ]
            neighbours = [
                nearby(correct, share, subkeys=subkeys, use=use) for use in uses
            ]
            curve.append((share, neighbours))
        return cls(correct, incorrect, curve)

    @property
    def same_transform(self) -> int:
        """How many incorrect keys give the correct transform."""
        return sum(same(self.correct, transform) for transform in self.incorrect)

    def changed(self, transforms: Sequence[TransformSet]) -> float:
        """Mean share of the entries in which transforms differ from the correct one."""
        shares = [changed_share(self.correct, transform) for transform in transforms]
        return float(np.mean(shares))
