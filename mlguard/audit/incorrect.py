"""Incorrect keys: drawn at random, the same ones for the same seed.

Each is a full model key, and what it does to an image is derived for this model just
as the correct key's transform is. The draw starts from a subkey of the correct key:
if it started from the public seed alone, any reader of the report could compute the
key that scored best, and the report would hand it out.
docs/spec/audit-v1.md, section 2.
"""

from collections.abc import Callable

from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.transforms import TransformSet


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
