"""Write transforms.json from docs/spec/transforms-v1.md alone. Imports nothing of ours
but the generator of keys.json beside it.

The transforms are loops over single values, and the Feistel cipher is written out from
its description, without pyffx. Run by hand when the specification gains a case, never
to make a failing test pass: `git diff` on the JSON must show only added lines.
"""

import hashlib
import hmac
import math
import struct
from pathlib import Path

from make_keys import (
    COUNTING,
    MODEL,
    ONES,
    coin_flips,
    dump,
    half_mask,
    permutation,
    subkey,
)

BLOCK_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CHAINS = ("shf", "np", "ffx", "np+shf+ffx", "ffx+shf", "shf+np")

Image = list[list[list[int]]]  # channel, row, column
Shape = tuple[int, ...]  # of a convolution's weights


def ffx(password: bytes, value: int) -> int:
    """Section 4: encrypt a number of three decimal digits, 10 Feistel rounds."""
    left, right = [value // 100], [value // 10 % 10, value % 10]
    for number in range(10):
        digits = round_digits(password, number, right)
        mixed = [(a + f) % 10 for a, f in zip(left, digits, strict=False)]
        left, right = right, mixed
    first, second, third = left + right
    return 100 * first + 10 * second + third


def round_digits(password: bytes, number: int, half: list[int]) -> list[int]:
    """The first decimal digits of the round function, least significant first."""
    message = struct.pack(f"<I{len(half)}II", number, *half, 0)
    mac = hmac.new(password, message, hashlib.sha1).digest()
    drawn = int.from_bytes(mac, "big")
    return [drawn % 10, drawn // 10 % 10]


class Stage:
    """One method with one key: a function on a flat block of values."""

    def __init__(self, method: str, secret: bytes, model: bytes, size: int) -> None:
        length, parameters = 3 * size**2, f"m={size}/c=3"
        self.method, self.size = method, size
        if method == "orthogonal":
            uses = [f"{number}/{parameters}" for number in (1, 2)]
            orders = [subkey(secret, model, f"orthogonal-order/{u}") for u in uses]
            signs = [subkey(secret, model, f"orthogonal-signs/{u}") for u in uses]
            self.rounds = [
                (permutation(order, length)[0], coin_flips(flips, length))
                for order, flips in zip(orders, signs, strict=True)
            ]
        if method == "shf":
            key = subkey(secret, model, f"shf/{parameters}")
            self.order = permutation(key, length)[0]
        if method == "np":
            key = subkey(secret, model, f"np/{parameters}")
            self.mask = half_mask(key, length)
        if method == "ffx":
            key = subkey(secret, model, f"ffx-mask/{parameters}")
            self.mask = half_mask(key, length)
            password = subkey(secret, model, "ffx-password")
            self.table = [ffx(password, value) for value in range(256)]

    def __call__(self, block: list[int]) -> list[int]:
        """Sections 2, 3 and 4."""
        if self.method == "orthogonal":
            return self.mixed(block)
        if self.method == "shf":
            return [block[source] for source in self.order]
        pairs = zip(block, self.mask, strict=True)
        if self.method == "np":
            return [255 - value if chosen else value for value, chosen in pairs]
        return [self.table[value] if chosen else value for value, chosen in pairs]

    @property
    def scale(self) -> int:
        """What the integers are divided by."""
        if self.method == "orthogonal":
            return 510 * self.size**2
        return max(self.table) if self.method == "ffx" else 255

    def mixed(self, block: list[int]) -> list[int]:
        """Section 10, the Hadamard matrix entry by entry."""
        values = [2 * value - 255 for value in block]
        third = len(values) // 3
        for order, signs in self.rounds:
            pairs = zip(order, signs, strict=True)
            moved = [values[source] * sign for source, sign in pairs]
            values = [
                sum(
                    (-1) ** bin(i & j).count("1") * moved[start + j]
                    for j in range(third)
                )
                for start in range(0, 3 * third, third)
                for i in range(third)
            ]
        return [value + 255 * self.size**2 for value in values]


def picture(height: int, width: int) -> Image:
    """A picture anyone can make again: section 8."""
    return [
        [
            [(31 * c + 7 * y + 3 * x + x * y) % 256 for x in range(width)]
            for y in range(height)
        ]
        for c in range(3)
    ]


def transformed(image: Image, stages: list[Stage], size: int) -> Image:
    """Section 1: block after block, each flattened as (row, column, channel)."""
    height, width = len(image[0]), len(image[0][0])
    result = [[[0] * width for _ in range(height)] for _ in range(3)]
    for top in range(0, height, size):
        for left in range(0, width, size):
            places = [
                (c, top + row, left + column)
                for row in range(size)
                for column in range(size)
                for c in range(3)
            ]
            block = [image[c][y][x] for c, y, x in places]
            for stage in stages:
                block = stage(block)
            for (c, y, x), value in zip(places, block, strict=True):
                result[c][y][x] = value
    return result


def case(comment: str, chain: str, secret: str, model: str, size: int) -> dict:
    """One image of two blocks (one from 64 on), its values or their digest."""
    names = chain.split("+")
    keys = bytes.fromhex(secret), bytes.fromhex(model)
    stages = [Stage(name, *keys, size) for name in names]
    height, width = size, size if size >= 64 else 2 * size
    image = transformed(picture(height, width), stages, size)
    flat = [value for channel in image for row in channel for value in row]
    digest = hashlib.sha256(struct.pack(f"<{len(flat)}i", *flat)).hexdigest()
    shown = {"values": flat} if size <= 2 else {}
    return {
        "comment": comment,
        "methods": names,
        "secret": secret,
        "protection_id": model,
        "block_size": size,
        "height": height,
        "width": width,
        "scale": max(stage.scale for stage in stages),
        "sha256": digest,
        **shown,
    }


def passport(comment: str, secret: str, model: str, layer: str, shape: Shape) -> dict:
    """Section 11, with weights whose sums are exact: whole numbers of sixteenths."""
    outputs, *rest = shape
    length = math.prod(rest)
    uses = (f"passport-{part}/{layer}/l={length}" for part in ("scale", "bias"))
    keys = (subkey(bytes.fromhex(secret), bytes.fromhex(model), use) for use in uses)
    signs = [coin_flips(key, length) for key in keys]
    filters = [
        [((31 * o + 7 * i + o * i) % 256 - 128) / 16 for i in range(length)]
        for o in range(outputs)
    ]
    scale, bias = (
        [sum(w * s for w, s in zip(one, each, strict=True)) for one in filters]
        for each in signs
    )
    return {
        "comment": comment,
        "secret": secret,
        "protection_id": model,
        "layer": layer,
        "shape": list(shape),
        "scale_signs": signs[0],
        "bias_signs": signs[1],
        "scale": scale,
        "bias": bias,
    }


def vectors() -> dict[str, list[dict]]:
    """Every case, by kind."""
    passwords = [("the published check", b"password".hex()), ("a subkey", COUNTING)]
    return {
        "tables": [
            {
                "comment": comment,
                "password": password,
                "table": [ffx(bytes.fromhex(password), v) for v in range(256)],
            }
            for comment, password in passwords
        ],
        "images": [
            case(f"{chain}, blocks of {size}", chain, COUNTING, MODEL, size)
            for chain in CHAINS
            for size in BLOCK_SIZES
        ]
        + [
            case("np+shf+ffx, another key", "np+shf+ffx", ONES, MODEL, 2),
            case("np+shf+ffx, another model", "np+shf+ffx", COUNTING, "ff" * 16, 2),
        ]
        + [
            case(f"orthogonal, blocks of {size}", "orthogonal", COUNTING, MODEL, size)
            for size in (2, 4, 8, 16)
        ],
        "passports": [
            passport("a convolution", COUNTING, MODEL, "stem.0", (4, 3, 3, 3)),
            passport("of groups", COUNTING, MODEL, "features.1", (8, 1, 3, 3)),
            passport("another layer", COUNTING, MODEL, "layer1.0", (4, 3, 3, 3)),
            passport("another key", ONES, MODEL, "stem.0", (4, 3, 3, 3)),
            passport("another model", COUNTING, "ff" * 16, "stem.0", (4, 3, 3, 3)),
        ],
    }


if __name__ == "__main__":
    Path(__file__).with_name("transforms.json").write_text(dump(vectors()))
