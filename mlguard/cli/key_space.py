"""Say how many distinct transforms a key can express, and warn when they are few."""

import sys

from mlguard import recipe
from mlguard.transforms import MIN_KEY_SPACE_BITS


def warn_of_small_key_space(spec: recipe.Transform, bits: float) -> None:
    """Print the effective key space; below the limit, as a warning with what to do."""
    named = f"{'+'.join(spec.methods)} with {places_of(spec)}"
    print(f"effective key space: {bits:.1f} bits ({named})", file=sys.stderr)
    if bits < MIN_KEY_SPACE_BITS:
        print(
            f"mlguard: warning: below {MIN_KEY_SPACE_BITS} bits a thief can search "
            "for the transform itself, whatever the key; take a larger block_size, "
            "shf, or channels of a wider layer",
            file=sys.stderr,
        )


def places_of(spec: recipe.Transform) -> str:
    """Where the methods act, in a few words."""
    places = [f"M={spec.block_size}"] if spec.image_methods else []
    number = len(spec.layers)
    if number:
        places.append(f"{number} layer{'s' * (number > 1)}")
    return " and ".join(places)
