"""The transforms of all keys of an audit: correct, incorrect and nearby ones.

An incorrect key is a full model key, and its transforms are derived for this model just
as the correct key's are. The draw starts from a subkey of the correct key and depends
on the protected model alone: no reader of the report can compute the key that scored
best, and no owner can choose a favourable draw. docs/spec/audit-v4.md, section 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlguard import recipe
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.transforms import TransformSet
from mlguard.transforms.nearby import changed_share, nearby, same


def incorrect_key(subkeys: ModelSubkeys, index: int) -> ModelKey:
    """Draw one incorrect key.

    Args:
        subkeys: The subkeys of the audited model under its correct key.
        index: The number of the incorrect key, from 0.
    """
    return ModelKey(subkeys.derive(f"audit/incorrect-key={index}"))


@dataclass(frozen=True)
class AuditTransforms:
    """The transforms of all keys of an audit: key material, never written.

    Attributes:
        correct: The model's own transforms.
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
        """Derive all transforms; fewer keys are a prefix of more.

        Args:
            correct: The transforms of the correct key.
            derive: A function from a key's subkeys for this model to its transforms.
            subkeys: The subkeys of the audited model under its correct key.
            settings: The number of keys of each kind.
        """
        if correct.empty:
            return cls(correct, [], [])  # no key does anything
        incorrect = [
            derive(incorrect_key(subkeys, index).for_model(subkeys.protection_id))
            for index in range(settings.incorrect_keys)
        ]
        curve = []
        for share in sorted(set(settings.nearby)):
            neighbours = [
                nearby(
                    correct,
                    share,
                    subkeys=subkeys,
                    use=f"audit/nearby={share}/{index}",
                )
                for index in range(settings.nearby_keys)
            ]
            curve.append((share, neighbours))
        return cls(correct, incorrect, curve)

    @property
    def number(self) -> int:
        """Of conditions: without a key, and under each of these."""
        nearby = sum(len(neighbours) for _, neighbours in self.nearby)
        return 2 + len(self.incorrect) + nearby

    @property
    def same_transform(self) -> int:
        """How many incorrect keys give the correct transform."""
        return sum(same(self.correct, transform) for transform in self.incorrect)

    def changed(self, transforms: Sequence[TransformSet]) -> float:
        """Return the mean share of entries that differ from the correct transform's."""
        shares = [changed_share(self.correct, transform) for transform in transforms]
        return float(np.mean(shares))
