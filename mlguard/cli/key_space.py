"""Print how many distinct transforms a key has, and warn if they are few."""

from mlguard import recipe
from mlguard.cli.printable import tell, warn
from mlguard.transforms import MIN_KEY_SPACE_BITS, said_bits


def warn_of_small_key_space(
    spec: recipe.Transform, bits: float, *, shown: bool = False
) -> None:
    """Print the effective key space; below the limit, as a warning with advice.

    Args:
        spec: The recipe's [transform] section.
        bits: The effective key space.
        shown: Whether the weights reveal the transform of images, which `bits` then
            leaves out.
    """
    if spec.splits:
        tell("every private weight is sealed under the key; the host has none of them")
        return
    if spec.seals:
        tell("every weight is sealed under the key")
        return
    named = f"{'+'.join(spec.methods)} with {places_of(spec)}"
    if shown:
        named += (
            "; the transform of images is not counted, because the weights reveal it"
        )
    tell(f"effective key space: {said_bits(bits)}: {named}")
    if shown:
        too = "" if bits >= MIN_KEY_SPACE_BITS else " permute layers too (--layers);"
        warn(
            "the stem reveals its part of the key to a thief with the weights: its "
            "zeros and equal weights show where every pixel went;"
            f"{too} hand on only a sealed bundle; docs/bind.md says what helps"
        )
    elif bits < MIN_KEY_SPACE_BITS:
        warn(
            f"below {MIN_KEY_SPACE_BITS} bits a thief can search for the transform "
            "itself, whatever the key; use a larger block_size, shf, or channels of "
            "a wider layer"
        )


def places_of(spec: recipe.Transform) -> str:
    """Return where the methods act, in a few words."""
    places = [f"M={spec.block_size}"] if spec.image_methods else []
    number = len(spec.layers)
    if number:
        places.append(f"{number} layer{'s' * (number > 1)}")
    if spec.keys_norms:
        places.append("every batch norm after a convolution")
    return " and ".join(places)
