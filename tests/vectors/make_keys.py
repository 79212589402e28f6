"""Write keys.json from docs/spec/keys-v1.md alone. Imports nothing of mlguard.

HKDF, ChaCha20 and the choice are written out plainly, from RFC 5869 and RFC 8439. Run
by hand when the specification gains a case, never to make a failing test pass: `git
diff` on the JSON must show only added lines.

The secrets count upwards or repeat one byte, so that nobody takes them for real keys.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

COUNTING = bytes(range(32)).hex()
ZEROS = "00" * 32
ONES = "11" * 32
MODEL = bytes(range(16)).hex()
OTHER_MODEL = "ff" * 16

KEY_IDS = [
    ("a counting secret", COUNTING),
    ("a secret of zeros", ZEROS),
    ("a secret of ones", ONES),
]
SUBKEYS = [
    ("the order of shf", COUNTING, MODEL, "shf/m=4/c=3"),
    ("another use of the same model", COUNTING, MODEL, "np/m=4/c=3"),
    ("another block size", COUNTING, MODEL, "shf/m=8/c=3"),
    ("another model under the same key", COUNTING, OTHER_MODEL, "shf/m=4/c=3"),
    ("another key", ONES, MODEL, "shf/m=4/c=3"),
    ("a use outside ASCII", COUNTING, MODEL, "channels/étage.2/c=64"),
]
WORDS = [
    ("the first block is block 0 (RFC 8439, appendix A.1, vector 1)", ZEROS, 16),
    ("counting on into the second block", COUNTING, 20),
]
PERMUTATIONS = [
    ("nothing to choose", COUNTING, 1),
    ("one choice of two", COUNTING, 2),
    ("a block of 1", COUNTING, 3),
    ("a block of 2", COUNTING, 12),
    ("a block of 4", COUNTING, 48),
    ("another subkey", ONES, 48),
]
LONG_PERMUTATIONS = [
    ("a block of 32", COUNTING, 3 * 32**2),
    ("a block of 256, where words are rejected", COUNTING, 3 * 256**2),
]
HALF_MASKS = [
    ("half of an odd length, rounded down", COUNTING, 3),
    ("a block of 2", COUNTING, 12),
    ("a block of 4", COUNTING, 48),
]

COIN_FLIPS = [
    ("one flip", COUNTING, 1),
    ("sixteen flips, one block of the keystream", COUNTING, 16),
    ("flips from two blocks", ONES, 20),
]
CHANNELS = [
    ("eight channels", COUNTING, MODEL, "layer", 8),
    ("another layer of the same model", COUNTING, MODEL, "backbone.layer1", 8),
    ("more channels", COUNTING, MODEL, "layer", 32),
]
TRAININGS = [
    ("a digest of zeros", COUNTING, "00" * 32),
    ("another recipe", COUNTING, "11" * 32),
    ("another key", ONES, "00" * 32),
]
DRAWS = [
    ("the first tensor, an odd number of values", COUNTING, 0, 5),
    ("another tensor of the same model", COUNTING, 1, 4),
    ("values from two blocks of the keystream", ONES, 0, 20),
]


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, for the 32 bytes that one round of expansion gives."""
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def key_id(secret: bytes) -> str:
    """Section 2: the first 8 of the 32 bytes, in hex."""
    return hkdf(secret, b"", b"mlguard/v1/key-id")[:8].hex()


def subkey(secret: bytes, protection_id: bytes, use: str) -> bytes:
    """Section 3."""
    return hkdf(secret, protection_id, ("mlguard/v1/" + use).encode("utf-8"))


def words(key: bytes) -> Iterator[int]:
    """Section 4: the ChaCha20 keystream, zero nonce, from block 0, as words."""
    counter = 0
    while True:
        yield from chacha20_block(key, counter)
        counter += 1


def chacha20_block(key: bytes, counter: int) -> list[int]:
    """RFC 8439, section 2.3, with a nonce of zeros."""
    constants = struct.unpack("<4I", b"expand 32-byte k")
    start = [*constants, *struct.unpack("<8I", key), counter, 0, 0, 0]
    state = list(start)
    for _ in range(10):
        quarter_round(state, 0, 4, 8, 12)
        quarter_round(state, 1, 5, 9, 13)
        quarter_round(state, 2, 6, 10, 14)
        quarter_round(state, 3, 7, 11, 15)
        quarter_round(state, 0, 5, 10, 15)
        quarter_round(state, 1, 6, 11, 12)
        quarter_round(state, 2, 7, 8, 13)
        quarter_round(state, 3, 4, 9, 14)
    return [(s + t) % 2**32 for s, t in zip(state, start, strict=True)]


def quarter_round(state: list[int], a: int, b: int, c: int, d: int) -> None:
    """RFC 8439, section 2.1."""
    for x, y, z, distance in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[x] = (state[x] + state[y]) % 2**32
        mixed = state[z] ^ state[x]
        state[z] = (mixed << distance | mixed >> 32 - distance) % 2**32


def coin_flips(key: bytes, length: int) -> list[int]:
    """Section 7: -1 for an odd word, +1 for an even one."""
    stream = words(key)
    return [-1 if next(stream) % 2 else 1 for _ in range(length)]


def permutation(key: bytes, length: int) -> tuple[list[int], int]:
    """Section 5: the permutation, and how many words were rejected on the way."""
    stream, order, rejected = words(key), list(range(length)), 0
    for i in reversed(range(1, length)):
        while True:
            word = next(stream)
            if word < 2**32 // (i + 1) * (i + 1):
                break
            rejected += 1
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order, rejected


def half_mask(key: bytes, length: int) -> list[int]:
    """Section 6: one where the mask is set."""
    chosen = set(permutation(key, length)[0][: length // 2])
    return [int(i in chosen) for i in range(length)]


def training_secret(secret: bytes, digest: bytes) -> bytes:
    """Section 8."""
    return hkdf(secret, b"", b"mlguard/v1/training/" + digest.hex().encode())


def draw_key(training: bytes, use: str) -> bytes:
    """Section 8: the subkey of one kind of draw."""
    return hkdf(training, b"", b"mlguard/v1/training-draw/" + use.encode())


def uniforms(key: bytes, count: int) -> list[float]:
    """Section 8: 24 bits of a word each."""
    stream = words(key)
    return [(next(stream) // 256) / 2**24 for _ in range(count)]


def normals(key: bytes, count: int) -> list[float]:
    """Section 8: two of every two words."""
    stream, drawn = words(key), []
    while len(drawn) < count:
        radius = math.sqrt(-2 * math.log((next(stream) + 1) / 2**32))
        angle = 2 * math.pi * next(stream) / 2**32
        drawn += [radius * math.cos(angle), radius * math.sin(angle)]
    return drawn[:count]


def long_case(comment: str, key: str, length: int) -> dict[str, object]:
    """A permutation too long to print: the SHA-256 of its little-endian int64."""
    order, rejected = permutation(bytes.fromhex(key), length)
    digest = hashlib.sha256(struct.pack(f"<{length}q", *order)).hexdigest()
    return {
        "comment": comment,
        "subkey": key,
        "length": length,
        "rejected": rejected,
        "sha256": digest,
    }


def vectors() -> dict[str, list[dict[str, object]]]:
    """Every case, by section of the specification."""
    read = bytes.fromhex
    return {
        "key_ids": [
            {"comment": c, "secret": s, "key_id": key_id(read(s))} for c, s in KEY_IDS
        ],
        "subkeys": [
            {
                "comment": comment,
                "secret": secret,
                "protection_id": model,
                "use": use,
                "subkey": subkey(read(secret), read(model), use).hex(),
            }
            for comment, secret, model, use in SUBKEYS
        ],
        "words": [
            {
                "comment": comment,
                "subkey": key,
                "words": [w for w, _ in zip(words(read(key)), range(n), strict=False)],
            }
            for comment, key, n in WORDS
        ],
        "permutations": [
            {"comment": c, "subkey": k, "order": permutation(read(k), n)[0]}
            for c, k, n in PERMUTATIONS
        ],
        "long_permutations": [long_case(*case) for case in LONG_PERMUTATIONS],
        "half_masks": [
            {"comment": c, "subkey": k, "mask": half_mask(read(k), n)}
            for c, k, n in HALF_MASKS
        ],
        "coin_flips": [
            {"comment": c, "subkey": k, "flips": coin_flips(read(k), n)}
            for c, k, n in COIN_FLIPS
        ],
        "channels": [
            {
                "comment": comment,
                "secret": secret,
                "protection_id": model,
                "layer": layer,
                "order": permutation(
                    subkey(read(secret), read(model), f"channels/{layer}/c={n}"), n
                )[0],
                "signs": coin_flips(
                    subkey(read(secret), read(model), f"channel-signs/{layer}/c={n}"), n
                ),
            }
            for comment, secret, model, layer, n in CHANNELS
        ],
        "trainings": [
            {
                "comment": comment,
                "secret": secret,
                "digest": digest,
                "training_secret": training_secret(read(secret), read(digest)).hex(),
                "order": int.from_bytes(
                    draw_key(training_secret(read(secret), read(digest)), "order")[:8],
                    "little",
                ),
            }
            for comment, secret, digest in TRAININGS
        ],
        "training_draws": [
            {
                "comment": comment,
                "training_secret": secret,
                "tensor": tensor,
                "uniform": uniforms(draw_key(read(secret), f"weights/{tensor}"), n),
                "normal": normals(draw_key(read(secret), f"weights/{tensor}"), n),
            }
            for comment, secret, tensor, n in DRAWS
        ],
    }


def dump(sections: dict[str, list[dict[str, object]]]) -> str:
    """JSON with one case a line, so that a diff shows cases."""
    parts = []
    for name, cases in sections.items():
        lines = ",\n".join("    " + json.dumps(case) for case in cases)
        parts.append(f'  "{name}": [\n{lines}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    Path(__file__).with_name("keys.json").write_text(dump(vectors()))
