"""The methods for images, by name: derive a transform, or compute its key space."""

from collections.abc import Sequence

from mlguard.keys import ModelSubkeys
from mlguard.rules import IMAGE_METHODS, check_methods
from mlguard.transforms.base import DerivedTransform, Transform
from mlguard.transforms.compose import Compose
from mlguard.transforms.format_preserving import FormatPreserving
from mlguard.transforms.negative_positive import NegativePositive
from mlguard.transforms.orthogonal import Orthogonal
from mlguard.transforms.pixel_shuffle import PixelShuffle

_TRANSFORMS: dict[str, type[DerivedTransform]] = {
    "shf": PixelShuffle,
    "np": NegativePositive,
    "ffx": FormatPreserving,
    "orthogonal": Orthogonal,
}
METHODS = IMAGE_METHODS


def derive_transform(
    methods: Sequence[str], subkeys: ModelSubkeys, block_size: int
) -> Transform:
    """Derive the transform of one protected model.

    Args:
        methods: Names of METHODS, in the order they are applied.
        subkeys: The subkeys of the protected model.
        block_size: M, in pixels; one of BLOCK_SIZES.

    Raises:
        ValueError: The methods are unknown or cannot be combined, or the block size is
            unknown.
    """
    derived = [kind.derive(subkeys, block_size) for kind in _kinds(methods)]
    return derived[0] if len(derived) == 1 else Compose(derived)


def key_space_bits(methods: Sequence[str], block_size: int) -> float:
    """Return the effective key space of a derived transform, in bits. Needs no key.

    Raises:
        ValueError: As in `derive_transform`.

    Example:
        >>> [round(key_space_bits([m], 2), 1) for m in METHODS]
        [28.8, 9.9, 9.9, 40.8]
    """
    return sum(kind.key_space(block_size) for kind in _kinds(methods))


def _kinds(methods: Sequence[str]) -> list[type[DerivedTransform]]:
    if isinstance(methods, str):
        raise TypeError(f"expected a sequence of methods, got the string {methods!r}")
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        known = ", ".join(METHODS)
        raise ValueError(f"expected methods of {known}, got {', '.join(unknown)}")
    check_methods(methods)
    return [_TRANSFORMS[method] for method in methods]
