"""Names, sizes and rules that several rooms share, each written once.

It imports only the standard library, so that a recipe or a bundle's manifest can be
checked without numpy. The methods themselves are in `mlguard.transforms`, the attacks
in `mlguard.audit.attacks`.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

BYTE_MAX: Final = 255  # the largest value of a pixel, a mask or an ignore_index

TaskName = Literal["segmentation", "classification"]
MAX_CLASSES: dict[TaskName, int] = {
    "segmentation": BYTE_MAX + 1,  # a mask has one byte per pixel
    "classification": 1 << 16,  # three times as many as ImageNet-21k has
}

ImageMethod = Literal["shf", "np", "ffx", "orthogonal"]
IMAGE_METHODS: tuple[ImageMethod, ...] = get_args(ImageMethod)
CHANNELS_METHOD: Final = "channels"  # permutes feature maps inside the model
WEIGHTS_METHOD: Final = "weights"  # seals every weight; the model computes as it did
PASSPORT_METHOD: Final = "passport"  # gives batch norms their scale and bias
SPLIT_METHOD: Final = "split"  # what is private runs where the key is, and is sealed
BLOCK_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # pixels; arXiv:2107.09362, table 1
# Up to 16, all its sums stay below 2²⁴, so that float32 computes them exactly.
ORTHOGONAL_SIZES = (2, 4, 8, 16)  # pixels

# Of an adversary with public weights beside the stolen ones.
AncestorAttack = Literal[
    "public-ancestor",
    "direction-matching",
    "rotation-matching",
    "two-sided-matching",
    "activation-matching",
    "mixture-regression",
    "outlier-replacement",
    "low-rank-removal",
]
ANCESTOR_ATTACKS: tuple[AncestorAttack, ...] = get_args(AncestorAttack)
AttackName = Literal[
    "without-key",
    "exhaustive",
    "integer-seeds",
    "hill-climbing",
    "gradient",
    "weights-only",
    "known-initialization",
    AncestorAttack,
    "known-plaintext",
    "transformed-images",
    "retraining",
    "patient-retraining",
]
ALL_ATTACKS: tuple[AttackName, ...] = get_args(AttackName)


def check_methods(methods: Sequence[str]) -> None:
    """Refuse methods on images that cannot be applied in this order.

    Raises:
        ValueError: There are none, one appears twice, `np` follows `ffx`, or
            `orthogonal`, which includes the others, is combined with another.

    Example:
        >>> check_methods(["shf", "np", "ffx"])
        >>> check_methods(["ffx", "np"])
        Traceback (most recent call last):
        ValueError: np works on 0…255, so it must come before ffx
    """
    if not methods or len(set(methods)) != len(methods):
        raise ValueError(f"expected different methods, got {list(methods)}")
    if "ffx" in methods and "np" in methods[methods.index("ffx") :]:
        raise ValueError(f"np works on 0…{BYTE_MAX}, so it must come before ffx")
    if "orthogonal" in methods and len(methods) > 1:
        raise ValueError(
            "orthogonal mixes whole blocks, so it cannot be combined with another "
            "method"
        )


def block_sizes_of(methods: Sequence[str]) -> tuple[int, ...]:
    """Return the block sizes that all the given methods support, in pixels.

    Example:
        >>> block_sizes_of(["orthogonal"])
        (2, 4, 8, 16)
    """
    return ORTHOGONAL_SIZES if "orthogonal" in methods else BLOCK_SIZES
