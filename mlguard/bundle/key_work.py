"""What a key does for the model of a bundle."""

from mlguard.bundle.manifest import Facts
from mlguard.keys import ModelSubkeys
from mlguard.transforms import ChannelPermutation, TransformSet, derive_transform


def derive_transforms(facts: Facts, subkeys: ModelSubkeys) -> TransformSet:
    """Derive everything that a key does for one bundle.

    Args:
        facts: Of the bundle's manifest.
        subkeys: The subkeys of the protected model.
    """
    methods, block_size = facts.transform.methods, facts.transform.block_size
    channels = (
        ChannelPermutation.derive(subkeys, one.layer, one.channels, signs=one.signs)
        for one in facts.feature_maps
    )
    return TransformSet(
        derive_transform(methods, subkeys, block_size) if methods else None,
        tuple(channels),
    )
