"""What every key of an audit does: the correct one, incorrect ones, nearby ones.

An incorrect key is a full model key, and what it does to an image is derived for this
model just as the correct key's transform is. The draw starts from a subkey of the
correct key and follows from the protected model alone: no reader of the report can
compute the key that scored best, and no owner can choose the draw that flatters him.
docs/spec/audit-v4.md, section 2.
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
        subkeys: Of the audited model under its correct key.
        index: Which of the model's incorrect keys, from 0.
    """
    return ModelKey(subkeys.derive(f"audit/incorrect-key={index}"))


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
        """Derive them all; more keys begin with the same ones as fewer.

        Args:
            correct: What the correct key does.
            derive: What a key's subkeys for this model do.
            subkeys: Of the audited model under its correct key.
            settings: How many of each.
        """
        if correct.image is None and not correct.channels:
            return cls(correct, [], [])  # every key does the same: nothing
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
        """Mean share of the entries in which transforms differ from the correct one."""
        shares = [changed_share(self.correct, transform) for transform in transforms]
        return float(np.mean(shares))
