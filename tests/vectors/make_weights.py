"""Write weights.json from docs/spec/weights-v1.md alone. Imports nothing of mlguard.

Each case is a whole file of a few tensors that is right, or wrong in one way; `expect`
names the refusal. The key schedule is written out from RFC 5869. Run by hand when the
specification gains a case: `git diff` on the JSON must show only added lines.
"""

import base64
import hmac
import json
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
SECRET, OTHER_SECRET = bytes(range(32)), bytes([0x11]) * 32
MODEL_ID, SALT = bytes(range(16)), bytes(range(0x80, 0xA0))
LABEL = b"mlguard/sealed-tensors/v1/"
TYPES = {"F32": 1, "I64": 7, "BOOL": 9, "F16": 10, "BF16": 16, "F8_E4M3": 17, "F4": 23}
ZEROS = "0" * 64

Tensor = tuple[str, str, list[int], bytes]
TENSORS: list[Tensor] = [
    ("a.weight", "F32", [2, 3], bytes(range(24))),
    ("b.weight", "BF16", [3], bytes(range(6))),
    ("étage.8", "F8_E4M3", [2, 1], b"\x38\xb8"),
]
MANY: list[Tensor] = [
    ("empty", "F32", [0, 3], b""),
    ("also empty", "I64", [2, 0], b""),
    ("scalar", "F16", [], b"\x00\x3c"),
    ("flags", "BOOL", [3], b"\x01\x00\x01"),
    ("halves of bytes", "F4", [2, 2], b"\x12\x34"),
]


def number(value: int, width: int = 4) -> bytes:
    return value.to_bytes(width, "little")


def expand(root: bytes, label: bytes) -> bytes:
    return hmac.digest(root, LABEL + label + b"\x01", "sha512")


class Keys:
    """Everything that one key and one salt give a file."""

    def __init__(self, secret: bytes, model: bytes = MODEL_ID, salt: bytes = SALT):
        prk = hmac.digest(model, secret, "sha256")
        subkey = hmac.digest(prk, b"mlguard/v1/sealed-tensors\x01", "sha256")
        file_key = expand(hmac.digest(salt, subkey, "sha512"), b"file-key")[:32]
        prk, info = hmac.digest(salt, file_key, "sha512"), LABEL + b"root"
        first = hmac.digest(prk, info + b"\x01", "sha512")
        second = hmac.digest(prk, first + info + b"\x02", "sha512")
        self.root, self.commitment = first, second[:32]
        prk = hmac.digest(bytes(32), secret, "sha256")
        self.id = hmac.digest(prk, b"mlguard/v1/key-id\x01", "sha256")[:8].hex()

    def seal(self, index: int, tensor: Tensor) -> tuple[bytes, bytes]:
        name, dtype, shape, plain = tensor
        key = expand(self.root, b"tensor/%d" % index)[:32]
        ad = b"mlguard.sealed-tensors/1\x00" + number(index) + number(1) + number(0)
        ad += number(TYPES[dtype]) + number(len(shape))
        ad += b"".join(number(size, 8) for size in shape)
        ad += number(len(name.encode())) + name.encode()
        sealed = AESGCM(key).encrypt(bytes(12), plain, ad)
        return sealed[:-16], sealed[-16:]

    def mac(self, header: bytes) -> str:
        key = expand(self.root, b"weights/header")[:32]
        return hmac.digest(key, header, "sha256").hex()


def in_order(tensors: list[Tensor]) -> list[Tensor]:
    """As they lie in the data: of those that begin together, the empty ones first."""
    empty = sorted((t for t in tensors if not t[3]), key=lambda t: t[0].encode())
    return empty + [t for t in tensors if t[3]]


def build(
    tensors: list[Tensor] = TENSORS,
    *,
    metadata: dict[str, str] | None = None,
    secret: bytes = SECRET,
    change: Callable[[dict], None] = lambda fields: None,
    resign: bool = True,
    spaces: int = 0,
    data: Callable[[bytes], bytes] = lambda data: data,
    raw: Callable[[bytes], bytes] = lambda header: header,
) -> bytes:
    """A file; what is given makes it wrong.

    Args:
        tensors: With those without bytes at the beginning of the data.
        metadata: The owner's.
        secret: Of the model key.
        change: Done to the fields of the header before the MAC.
        resign: Whether the MAC is made after `change`, or before.
        spaces: Behind the header.
        data: Done to the ciphertext.
        raw: Done to the header's bytes at the end.
    """
    keys = Keys(secret)
    cipher, tags, at, entries = b"", b"", 0, {}
    for index, tensor in enumerate(in_order(tensors)):
        name, dtype, shape, plain = tensor
        sealed, tag = keys.seal(index, tensor)
        stop = at + len(plain)
        fields = {"dtype": dtype, "shape": shape, "data_offsets": [at, stop]}
        entries[name] = fields
        cipher, tags, at = cipher + sealed, tags + tag, stop
    own = {
        "mlguard.weights": "1",
        "mlguard.protection_id": MODEL_ID.hex(),
        "mlguard.key_id": keys.id,
        "mlguard.salt": SALT.hex(),
        "mlguard.commitment": keys.commitment.hex(),
        "mlguard.tags": tags.hex(),
        "mlguard.mac": ZEROS,
    }
    fields = {"__metadata__": {**(metadata or {}), **own}, **entries}
    if not resign:
        own["mlguard.mac"] = keys.mac(spelled(fields, spaces))
        fields["__metadata__"] = {**(metadata or {}), **own}
    change(fields)
    if resign and "mlguard.mac" in fields["__metadata__"]:
        fields["__metadata__"]["mlguard.mac"] = keys.mac(spelled(fields, spaces))
    header = raw(spelled(fields, spaces))
    return number(len(header), 8) + header + data(cipher)


def spelled(fields: dict, spaces: int) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b" " * spaces


def case(comment: str, file: bytes, expect: str = "success", **more: object) -> dict:
    secret = more.pop("secret", SECRET)
    return {
        "comment": comment,
        "key": secret.hex(),
        "file": base64.b64encode(file).decode(),
        "expect": expect,
        **more,
    }


def opened(comment: str, file: bytes, tensors: list[Tensor], **metadata: str) -> dict:
    plain = {name: data.hex() for name, _, _, data in tensors}
    return case(comment, file, tensors=plain, metadata=metadata)


def setting(name: str, key: str, value: object) -> Callable[[dict], None]:
    def change(fields: dict) -> None:
        fields[name][key] = value

    return change


def sized(*shape: object) -> Callable[[dict], None]:
    return setting("a.weight", "shape", list(shape))


def own(key: str, value: object) -> Callable[[dict], None]:
    return setting("__metadata__", f"mlguard.{key}", value)


def dropping(key: str) -> Callable[[dict], None]:
    def change(fields: dict) -> None:
        del fields["__metadata__"][f"mlguard.{key}"]

    return change


def renaming(old: str, new: str) -> Callable[[dict], None]:
    def change(fields: dict) -> None:
        fields[new] = fields.pop(old)

    return change


def plain() -> bytes:
    fields = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = spelled(fields, 0)
    return number(len(header), 8) + header + bytes(4)


def swapped(fields: dict) -> None:
    a, b = fields["one"], fields["two"]
    fields["one"], fields["two"] = b, a


def successes() -> list[dict]:
    texts = {"format": "pt", "note": 'a "quoted" é'}
    return [
        opened("three tensors of three types", build(), TENSORS),
        opened("no tensor at all", build([]), []),
        opened("spaces behind the header", build(spaces=13), TENSORS),
        opened("the owner's own texts", build(metadata=texts), TENSORS, **texts),
        opened("tensors without bytes come first, by name", build(MANY), MANY),
    ]


def malformed() -> list[dict]:
    def wrong(comment: str, file: bytes) -> dict:
        return case(comment, file, "malformed")

    good = build()
    two = [("one", "F32", [1], b"1234"), ("two", "F32", [1], b"5678")]
    return [
        wrong("nothing", b""),
        wrong("half a length", good[:4]),
        wrong("a header that is longer than the file", number(1 << 40, 8) + good[8:]),
        wrong("a header cut short", good[:60]),
        wrong("one byte too few", good[:-1]),
        wrong("one byte too many", good + b"\0"),
        wrong("a header that is a list", number(2, 8) + b"[]"),
        wrong("a header that is no JSON", number(2, 8) + b"{]"),
        wrong("a header that is not UTF-8", number(4, 8) + b'{"\xff'),
        wrong("nesting without an end", number(100000, 8) + b"[" * 100000),
        wrong("a name twice", build(raw=lambda h: h[:-1] + b',"a.weight":{}}')),
        wrong("an unknown field", build(change=setting("a.weight", "more", 1))),
        wrong("an unknown type", build(change=setting("a.weight", "dtype", "F33"))),
        wrong("a type that is no text", build(change=setting("a.weight", "dtype", []))),
        wrong("a negative size", build(change=sized(-2, -3))),
        wrong("a size with a point", build(change=sized(6.0))),
        wrong("a size that is true", build(change=sized(True))),
        wrong("a size too large", build(change=sized(1 << 60))),
        wrong(
            "offsets that do not fit the shape",
            build(change=setting("a.weight", "shape", [2, 2])),
        ),
        wrong(
            "a hole between tensors",
            build(two, change=setting("two", "data_offsets", [5, 9])),
        ),
        wrong(
            "tensors that overlap",
            build(two, change=setting("two", "data_offsets", [3, 7])),
        ),
        wrong("a name with a line in it", build(change=renaming("a.weight", "a\nb"))),
        wrong("an empty name", build(change=renaming("a.weight", ""))),
        wrong("metadata that is no text", build(change=own("salt", 5))),
        wrong("a part of what a key needs", build(change=dropping("commitment"))),
        wrong("digits in capitals", build(change=own("key_id", "CCD2335CBF0D3F1D"))),
        wrong("a salt too short", build(change=own("salt", "00" * 31))),
        wrong("one tag too few", build(change=own("tags", "00" * 32))),
        wrong("another name that begins like ours", build(change=own("more", ""))),
        wrong("a version that is no number", build(change=own("weights", "one"))),
        case("a later version", build(change=own("weights", "2")), "newer"),
        case("a plain file", plain(), "not bound"),
    ]


def tampered() -> list[dict]:
    def wrong(comment: str, file: bytes) -> dict:
        return case(comment, file, "tampered")

    def late(change: Callable[[dict], None], tensors: list[Tensor] = TENSORS) -> bytes:
        return build(tensors, change=change, resign=False)

    two = [("one", "F32", [1], b"1234"), ("two", "F32", [1], b"5678")]
    flat = setting("a.weight", "shape", [6])
    retyped = setting("b.weight", "dtype", "F16")
    texts = {"metadata": {"note": "yes"}, "resign": False}
    noted = setting("__metadata__", "note", "no")
    return [
        wrong("a tensor renamed", late(renaming("a.weight", "c.weight"))),
        wrong("a tensor in another shape", late(flat)),
        wrong("a tensor of another type", late(retyped)),
        wrong("two tensors exchanged", late(swapped, two)),
        wrong("a text of the owner changed", build(change=noted, **texts)),
        wrong("a text added", late(noted)),
        wrong("one space more", build(raw=lambda h: h + b" ")),
        wrong("tags of zeros", late(own("tags", "00" * 48))),
        wrong("a bit of a tensor", build(data=lambda d: bytes([d[0] ^ 1]) + d[1:])),
        wrong("the last bit", build(data=lambda d: d[:-1] + bytes([d[-1] ^ 128]))),
        wrong(
            "tensors exchanged in the data", build(two, data=lambda d: d[4:] + d[:4])
        ),
        wrong("a tensor retyped, its header vouched for", build(change=retyped)),
        wrong("a tensor reshaped, its header vouched for", build(change=flat)),
        wrong("no MAC", late(own("mac", ZEROS))),
    ]


def wrong_keys() -> list[dict]:
    def wrong(comment: str, file: bytes, **more: object) -> dict:
        return case(comment, file, "wrong key", **more)

    other = Keys(OTHER_SECRET)
    return [
        wrong("another key", build(), secret=OTHER_SECRET),
        wrong("a commitment of zeros", build(change=own("commitment", ZEROS))),
        wrong("another salt", build(change=own("salt", "33" * 32))),
        wrong("another protection id", build(change=own("protection_id", "33" * 16))),
        wrong("the name of another key", build(change=own("key_id", other.id))),
    ]


def main() -> None:
    """Write the file beside this program."""
    cases = successes() + malformed() + tampered() + wrong_keys()
    path = HERE / "weights.json"
    path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
