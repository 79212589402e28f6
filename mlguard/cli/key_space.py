"""Say how many distinct transforms a key can express, and warn when they are few."""

import sys

from mlguard import recipe
from mlguard.transforms import MIN_KEY_SPACE_BITS, key_space_bits


def warn_of_small_key_space(spec: recipe.Transform) -> None:
    """Print the effective key space; below the limit, as a warning with what to do."""
    bits = key_space_bits(spec.methods, spec.block_size)
    named = f"{'+'.join(spec.methods)} with M={spec.block_size}"
    print(f"effective key space: {bits:.1f} bits ({named})", file=sys.stderr)
    if bits < MIN_KEY_SPACE_BITS:
        print(
            f"mlguard: warning: below {MIN_KEY_SPACE_BITS} bits a thief can search "
            "for the transform itself, whatever the key; take a larger block_size, "
            "or shf",
            file=sys.stderr,
        )
