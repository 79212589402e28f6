"""Write sealed_tensors.json from docs/spec/sealed-tensors-v1.md alone.

Imports nothing of ours. Both halves of HKDF are written out plainly, from RFC 5869.
Each case is right, or wrong in one way, and `expect` names the refusal. Run by hand
when the specification gains a case, never to make a failing test pass: `git diff` on
the JSON must show only added lines.
"""

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
CHUNK = 64 * 1024 * 1024
PREFIX = b"mlguard/sealed-tensors/v1/"
DOMAIN = b"mlguard.sealed-tensors/1\x00"
FILE_KEY, OTHER_FILE_KEY = bytes(range(32)), bytes([0x11]) * 32
SALT, OTHER_SALT = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x60))
FLOAT, BFLOAT16, INT4, INT64 = 1, 16, 22, 7
SMALL = bytes(range(24))


def number(value: int, width: int = 4) -> bytes:
    return value.to_bytes(width, "little")


def expand(root: bytes, info: bytes) -> bytes:
    return hmac.digest(root, info + b"\x01", "sha512")


def root_and_commitment(file_key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    prk, info = hmac.digest(salt, file_key, "sha512"), PREFIX + b"root"
    first = hmac.digest(prk, info + b"\x01", "sha512")
    okm = first + hmac.digest(prk, first + info + b"\x02", "sha512")
    return okm[:64], okm[64:96]


def owners_file_key(secret: bytes, protection_id: bytes, salt: bytes) -> bytes:
    prk = hmac.digest(protection_id, secret, "sha256")
    subkey = hmac.digest(prk, b"mlguard/v1/sealed-tensors\x01", "sha256")
    return expand(hmac.digest(salt, subkey, "sha512"), PREFIX + b"file-key")[:32]


def seal(
    data: bytes,
    *,
    index: int = 0,
    name: str = "w",
    kind: int = FLOAT,
    shape: tuple[int, ...] = (2, 3),
    file_key: bytes = FILE_KEY,
    salt: bytes = SALT,
    hidden: bool = True,
) -> tuple[bytes, list[bytes]]:
    root, _ = root_and_commitment(file_key, salt)
    key = expand(root, PREFIX + b"tensor/%d" % index)[:32]
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    out, tags = b"", []
    for at, piece in enumerate(pieces):
        ad = DOMAIN + b"".join(map(number, (index, len(pieces), at, kind, len(shape))))
        ad += b"".join(number(size, 8) for size in shape)
        ad += number(len(name.encode())) + name.encode()
        nonce = number(at) + bytes(8)
        if hidden:
            sealed = AESGCM(key).encrypt(nonce, piece, ad)
            out, tag = out + sealed[:-16], sealed[-16:]
        else:
            tag = AESGCM(key).encrypt(nonce, b"", ad + b"\x01" + piece)
            out += piece
        tags.append(tag)
    return out, tags


def blob(data: bytes, name: str, *, hidden: bool = True) -> tuple[bytes, bytes]:
    root, _ = root_and_commitment(FILE_KEY, SALT)
    key = expand(root, PREFIX + b"blob/" + name.encode())[:32]
    ad = DOMAIN + b"blob\x00" + name.encode()
    if hidden:
        sealed = AESGCM(key).encrypt(bytes(12), data, ad)
        return sealed[:-16], sealed[-16:]
    return data, AESGCM(key).encrypt(bytes(12), b"", ad + b"\x01" + data)


def tensor_case(
    comment: str,
    plain: bytes,
    sealed: tuple[bytes, list[bytes]],
    *,
    expect: str = "success",
    **claim: object,
) -> dict[str, object]:
    """A case that is opened with FILE_KEY and SALT as what `claim` says it is."""
    said = {"index": 0, "name": "w", "type": FLOAT, "shape": [2, 3], "hidden": True}
    return {
        "comment": comment,
        "file_key": FILE_KEY.hex(),
        "salt": SALT.hex(),
        **(said | claim),
        "plain": plain.hex(),
        "sealed": sealed[0].hex(),
        "tags": [tag.hex() for tag in sealed[1]],
        "expect": expect,
    }


def tensors() -> list[dict[str, object]]:
    good, bad = seal(SMALL), "TamperedTensors"
    ciphertext, tags = good
    flipped = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    wrong_tag = [bytes([tags[0][0] ^ 0x80]) + tags[0][1:]]
    return [
        tensor_case("a tensor", SMALL, good),
        tensor_case(
            "the second of a file",
            SMALL,
            seal(SMALL, index=1),
            index=1,
            expect="success",
        ),
        tensor_case(
            "a scalar", bytes(8), seal(bytes(8), kind=INT64, shape=()), type=7, shape=[]
        ),
        tensor_case("nothing", b"", seal(b"", shape=(0, 3)), shape=[0, 3]),
        tensor_case(
            "a type that numpy does not know",
            SMALL[:6],
            seal(SMALL[:6], kind=BFLOAT16, shape=(3,)),
            type=BFLOAT16,
            shape=[3],
        ),
        tensor_case(
            "elements of half a byte",
            b"\x21\x03",
            seal(b"\x21\x03", kind=INT4, shape=(3,)),
            type=INT4,
            shape=[3],
        ),
        tensor_case(
            "a name beyond ASCII",
            SMALL,
            seal(SMALL, name="Gewicht·ß"),
            name="Gewicht·ß",
        ),
        tensor_case("not hidden", SMALL, seal(SMALL, hidden=False), hidden=False),
        tensor_case("one flipped bit", SMALL, (flipped, tags), expect=bad),
        tensor_case("a flipped tag", SMALL, (ciphertext, wrong_tag), expect=bad),
        tensor_case(
            "a flipped bit of what is not hidden",
            SMALL,
            (flipped, seal(SMALL, hidden=False)[1]),
            hidden=False,
            expect=bad,
        ),
        tensor_case("hidden, said not to be", SMALL, good, hidden=False, expect=bad),
        tensor_case("another tensor's place", SMALL, good, index=1, expect=bad),
        tensor_case("renamed", SMALL, good, name="v", expect=bad),
        tensor_case("retyped", SMALL, good, type=6, expect=bad),
        tensor_case("reshaped", SMALL, good, shape=[3, 2], expect=bad),
        tensor_case("another rank", SMALL, good, shape=[6], expect=bad),
        tensor_case(
            "of a file with another salt",
            SMALL,
            seal(SMALL, salt=OTHER_SALT),
            expect=bad,
        ),
        tensor_case(
            "under another file key",
            SMALL,
            seal(SMALL, file_key=OTHER_FILE_KEY),
            expect=bad,
        ),
    ]


def blobs() -> list[dict[str, object]]:
    content = b"stands for a graph; what is sealed may be any bytes"
    good, open_ = blob(content, "graph"), blob(content, "graph", hidden=False)

    def case(comment: str, sealed: tuple[bytes, bytes], **rest: object) -> dict:
        said = {"name": "graph", "hidden": True, "expect": "success"} | rest
        return {
            "comment": comment,
            "plain": content.hex(),
            "sealed": sealed[0].hex(),
            "tag": sealed[1].hex(),
        } | said

    bad = {"expect": "TamperedTensors"}
    return [
        case("a blob", good),
        case("a blob that is not hidden", open_, hidden=False),
        case("a blob under another name", good, name="table", **bad),
        case("a blob that is hidden, said not to be", good, hidden=False, **bad),
        case("a blob cut short", (good[0][:-1], good[1]), **bad),
    ]


def large() -> dict[str, object]:
    """Two chunks, of which the JSON holds digests only."""
    size = CHUNK + 5
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    ciphertext, tags = seal(data, kind=2, shape=(size,))
    return {
        "comment": "byte n is n mod 251",
        "size": size,
        "sealed_sha256": hashlib.sha256(ciphertext).hexdigest(),
        "tags": [tag.hex() for tag in tags],
    }


def keys() -> list[dict[str, str]]:
    secret, protection_id = bytes(range(1, 33)), bytes(range(16))
    found = []
    for salt in (SALT, OTHER_SALT):
        file_key = owners_file_key(secret, protection_id, salt)
        root, commitment = root_and_commitment(file_key, salt)
        found.append(
            {
                "secret": secret.hex(),
                "protection_id": protection_id.hex(),
                "salt": salt.hex(),
                "file_key": file_key.hex(),
                "commitment": commitment.hex(),
                "label": "manifest",
                "key": expand(root, PREFIX + b"manifest")[:32].hex(),
            }
        )
    return found


def main() -> None:
    cases = {"keys": keys(), "tensors": tensors(), "blobs": blobs(), "large": large()}
    text = json.dumps(cases, indent=1, ensure_ascii=False)
    (HERE / "sealed_tensors.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
