"""The key space of every transform of images, as `mlguard keygen` shows it."""

from mlguard.cli.printable import warn
from mlguard.transforms import (
    METHODS,
    MIN_KEY_SPACE_BITS,
    SECRET_BITS,
    block_sizes_of,
    key_space_bits,
)


def key_space_lines(block_sizes: tuple[int, ...], *, chosen: bool) -> list[str]:
    """What sealing and transforms keep of 256 bits.

    Weak transforms are warned of where somebody chose their block size: whoever chose
    none may only seal.
    """
    lines = [
        f"key space: the secret {SECRET_BITS} bits, all of which sealing uses; what a "
        "transform of images keeps of it:",
        " " * 12 + "".join(f"{f'M={size}':>10}" for size in block_sizes),
    ]
    weak = []
    for method in METHODS:
        fitting = [size for size in block_sizes if size in block_sizes_of([method])]
        bits = {
            size: min(SECRET_BITS, key_space_bits([method], size)) for size in fitting
        }
        cells = (f"{bits[m]:10.1f}" if m in bits else f"{'–':>10}" for m in block_sizes)
        lines.append(f"  {method:10}" + "".join(cells))
        weak += [f"{method} M={m}" for m in fitting if bits[m] < MIN_KEY_SPACE_BITS]
    if weak and chosen:
        warn(
            f"below {MIN_KEY_SPACE_BITS} bits a thief may try all "
            f"transforms: {', '.join(weak)}"
        )
    return lines
