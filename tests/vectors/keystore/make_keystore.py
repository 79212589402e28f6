"""Write the keystore test kit from docs/spec/keystore-v1.md alone.

Imports nothing of ours. Each `*.test` file is right, or wrong in one way, and is named
for it. It starts with lines of text and an empty line; the rest is the store:

    expect: success, or the name of the refusal
    comment: what the file is about
    identity: … or passphrase: … or token: KEY_ID KEY     what to open it with
    secret: NAME VERSION HEX          on success: what it holds, a line each

Run it by hand when the specification gains a case, never to make a failing test pass:
`git diff` must show only added files. Nothing is random: the bytes that should be are
SHA-256 of a counter. A token is an AES-256 key in hex and its CKA_ID, to be put on one.
"""

import base64
import hashlib
import hmac
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

HERE = Path(__file__).parent
MAGIC = b"mlguard keystore 1\n"
PREFIX = b"mlguard/keystore/v1/"
TIME = "2026-01-02T03:04:05Z"
SUITE = "hkdf-sha512+aes-256-gcm+argon2id"
LIGHT = {"iterations": 1, "lanes": 1, "memory_kib": 8192}

Json = dict[str, Any]
written: set[str] = set()
counter = 0


def rand(size: int) -> bytes:
    """Bytes that stand for random ones; the same in every run."""
    global counter
    out = b""
    while len(out) < size:
        counter += 1
        out += hashlib.sha256(b"mlguard test kit %d" % counter).digest()
    return out[:size]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def hkdf(key: bytes, salt: bytes, label: str, size: int) -> bytes:
    """RFC 5869 with SHA-512, written out."""
    prk = hmac.digest(salt or bytes(64), key, "sha512")
    return hmac.digest(prk, PREFIX + label.encode() + b"\x01", "sha512")[:size]


def seal(key: bytes, label: str, data: bytes, ad: bytes) -> bytes:
    salt = rand(32)
    okm = hkdf(key, salt, label, 64)
    return salt + okm[32:] + AESGCM(okm[:32]).encrypt(bytes(12), data, ad)


def identity_text(secret: bytes) -> str:
    check = hashlib.sha256(b"mlguard identity 1" + secret).digest()[:3]
    body = base64.b32encode(secret + check).decode()
    return "MLGUARD-IDENTITY-1-" + "-".join(body[i : i + 4] for i in range(0, 56, 4))


IDENTITY = rand(32)
OTHER = rand(32)
STORE_KEY = rand(32)
STORE_ID = rand(16)
SECRETS = [rand(32) for _ in range(3)]


def wrap(slot: Json, key: bytes, *, store_id: bytes = STORE_ID) -> Json:
    ad = store_id.hex().encode() + b"\n" + canonical(slot)
    wrapped = seal(key, "slot/" + slot["kind"], STORE_KEY, ad)
    return slot | {"wrapped": wrapped.hex()}


def identity_slot(secret: bytes = IDENTITY, **fields: object) -> Json:
    slot = {
        "created": TIME,
        "id": "00000001",
        "identity_id": hkdf(secret, b"", "identity-id", 8).hex(),
        "kind": "identity",
        "label": "ci",
    }
    return wrap(slot | fields, secret)


def passphrase_slot(text: str, *, costs: Json = LIGHT, **fields: object) -> Json:
    salt = rand(16)
    slot = {
        "created": TIME,
        "id": "00000002",
        "kind": "passphrase",
        "label": "me",
        "salt": salt.hex(),
    }
    stretch = Argon2id(
        salt=salt,
        length=32,
        iterations=costs["iterations"],
        lanes=costs["lanes"],
        memory_cost=costs["memory_kib"],
    )
    return wrap(slot | costs | fields, stretch.derive(text.encode()))


def version(number: int, **fields: object) -> Json:
    base = {
        "compromised": False,
        "created": TIME,
        "id": number,
        "secret": SECRETS[number % 3].hex(),
        "state": "enabled",
    }
    return base | fields


def body(*versions: Json, **fields: object) -> Json:
    base: Json = {
        "note": "",
        "policy": {"deletion_allowed": False, "exportable": False},
        "primary": 1,
        "purpose": "model",
        "uses": [],
        "versions": list(versions) or [version(1)],
    }
    return base | fields


def use(**fields: object) -> Json:
    base = {"kind": "run", "reference": "runs/acme", "since": TIME, "version": 1}
    return base | fields


STORE_LINE = canonical({"created": TIME, "log": None})


def payload(
    entries: list[tuple[str, Json | bytes]], first: bytes = STORE_LINE
) -> bytes:
    lines = [first]
    for name, entry in entries:
        encoded = entry if isinstance(entry, bytes) else canonical(entry)
        lines += [name.encode("utf-8", "surrogateescape"), encoded]
    return b"".join(line + b"\n" for line in lines)


def header(slots: list[Json] | None = None, **fields: object) -> Json:
    base: Json = {
        "generation": 1,
        "slots": [identity_slot()] if slots is None else slots,
        "store_id": STORE_ID.hex(),
        "suite": SUITE,
        "version": 1,
    }
    return base | fields


def store(
    head: Json | bytes | None = None,
    plain: bytes | None = None,
    *,
    mac: Callable[[bytes], bytes] = lambda good: good,
    sealed: Callable[[bytes], bytes] = lambda good: good,
    key: bytes = STORE_KEY,
    mac_end: bytes = b"\n",
    ad: Callable[[bytes], bytes] = lambda good: good,
) -> bytes:
    head = header() if head is None else head
    line = (head if isinstance(head, bytes) else canonical(head)) + b"\n"
    mac_key = hkdf(key, STORE_ID, "header-mac", 32)
    code = mac(hmac.digest(mac_key, line, "sha256").hex().encode()) + mac_end
    data = payload([("acme", body())]) if plain is None else plain
    rest = sealed(seal(key, "payload", data, ad(line + code)))
    return frame(line + code + rest)


def frame(rest: bytes, magic: bytes = MAGIC) -> bytes:
    return magic + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def write(
    name: str,
    data: bytes,
    expect: str,
    comment: str,
    *,
    opener: str = f"identity: {identity_text(IDENTITY)}",
    secrets: list[tuple[str, int, bytes]] | None = None,
) -> None:
    if name in written:
        raise AssertionError(f"{name} is there twice")
    written.add(name)
    lines = [f"expect: {expect}", f"comment: {comment}", opener]
    lines += [f"secret: {key} {n} {value.hex()}" for key, n, value in secrets or []]
    (HERE / f"{name}.test").write_bytes("\n".join(lines).encode() + b"\n\n" + data)


ACME = [("acme", 1, SECRETS[1])]


def good() -> None:
    ok = "success"
    write("one-key", store(), ok, "the smallest useful store", secrets=ACME)
    write("no-keys", store(plain=payload([])), ok, "a store that holds nothing")
    many = payload([(f"k{i}", body()) for i in range(10)])
    write(
        "ten-keys",
        store(plain=many),
        ok,
        "names in the order of their bytes",
        secrets=[(f"k{i}", 1, SECRETS[1]) for i in range(10)],
    )
    cases = payload([("Zebra", body()), ("a", body()), ("a.", body()), ("a_", body())])
    names = ["Zebra", "a", "a.", "a_"]
    write(
        "names-in-byte-order",
        store(plain=cases),
        ok,
        "capitals before small letters, a dot before an underscore",
        secrets=[(name, 1, SECRETS[1]) for name in names],
    )
    longest = "x" * 64
    write(
        "name-of-64",
        store(plain=payload([(longest, body())])),
        ok,
        "the longest name",
        secrets=[(longest, 1, SECRETS[1])],
    )
    two = body(version(1), version(2), primary=2)
    write(
        "two-versions",
        store(plain=payload([("acme", two)])),
        ok,
        "both versions are enabled and the second is primary",
        secrets=[*ACME, ("acme", 2, SECRETS[2])],
    )
    gap = body(version(1), version(7))
    write(
        "version-ids-with-a-gap",
        store(plain=payload([("acme", gap)])),
        ok,
        "ids ascend but need not be consecutive",
        secrets=[*ACME, ("acme", 7, SECRETS[1])],
    )
    dead = version(1, state="destroyed", secret=None)
    off = version(2, state="disabled", compromised=True)
    write(
        "destroyed-and-disabled-versions",
        store(plain=payload([("acme", body(dead, off, version(3), primary=3))])),
        ok,
        "only the third can be used",
        secrets=[("acme", 3, SECRETS[0])],
    )
    write(
        "secret-of-one-byte",
        store(plain=payload([("acme", body(version(1, secret="00")))])),
        ok,
        "the shortest secret",
        secrets=[("acme", 1, b"\0")],
    )
    write(
        "secret-of-4096-bytes",
        store(plain=payload([("acme", body(version(1, secret="ab" * 4096)))])),
        ok,
        "the longest secret",
        secrets=[("acme", 1, b"\xab" * 4096)],
    )
    note = body(note="clé de démonstration", uses=[use(), use(version=1, kind="x")][:1])
    write(
        "note-and-use",
        store(plain=payload([("acme", note)])),
        ok,
        "a note with letters outside ASCII, and a use",
        secrets=ACME,
    )
    log = canonical({"created": TIME, "log": {"count": 3, "head": "ab" * 32}})
    write(
        "log-head",
        store(plain=payload([("acme", body())], log)),
        ok,
        "the place of the audit log is filled",
        secrets=ACME,
    )
    write(
        "largest-generation",
        store(header(generation=2**53 - 1)),
        ok,
        "the last generation there is",
        secrets=ACME,
    )
    word = "passphrase: right"
    write(
        "passphrase",
        store(header([passphrase_slot("right")])),
        ok,
        "a passphrase slot of the lowest cost",
        opener=word,
        secrets=ACME,
    )
    costs = {"iterations": 2, "lanes": 4, "memory_kib": 8192}
    write(
        "passphrase-with-four-lanes",
        store(header([passphrase_slot("right", costs=costs)])),
        ok,
        "the costs are taken from the slot",
        opener=word,
        secrets=ACME,
    )
    write(
        "passphrase-outside-ascii",
        store(header([passphrase_slot("caf\u00e9")])),
        ok,
        "a decomposed passphrase opens what a composed one closed",
        opener="passphrase: cafe\u0301",
        secrets=ACME,
    )
    write(
        "passphrase-with-a-space-at-the-end",
        store(header([passphrase_slot("right ")])),
        ok,
        "white space belongs to the passphrase",
        opener="passphrase: right ",
        secrets=ACME,
    )
    both = [identity_slot(), passphrase_slot("right")]
    write("two-slots-identity", store(header(both)), ok, "by the first", secrets=ACME)
    write(
        "two-slots-passphrase",
        store(header(both)),
        ok,
        "by the second",
        opener=word,
        secrets=ACME,
    )
    same = [
        passphrase_slot("left", id="00000001", label="one"),
        passphrase_slot("right", id="00000002", label="two"),
    ]
    write(
        "second-passphrase-slot",
        store(header(same)),
        ok,
        "all slots of the kind are tried",
        opener=word,
        secrets=ACME,
    )
    slots = [identity_slot(id=f"{i:08x}", label=f"ci-{i}") for i in range(16)]
    write("sixteen-slots", store(header(slots)), ok, "as many as allowed", secrets=ACME)


def frames() -> None:
    bad = "MalformedKeystore"
    whole = store()
    body_ = whole[len(MAGIC) + 65 :]
    line, mac, rest = body_.split(b"\n", 2)
    write("empty", b"", bad, "no byte at all")
    write("magic-only", MAGIC, bad, "nothing after the first line")
    write("other-file", b"PK\x03\x04 something else", bad, "not a keystore")
    write("later-version", b"mlguard keystore 2\n" + whole[19:], bad, "a later format")
    write("magic-with-carriage-return", MAGIC[:-1] + b"\r\n" + whole[19:], bad, "CR LF")
    write("magic-in-capitals", MAGIC.upper() + whole[19:], bad, "another first line")
    write("byte-order-mark", b"\xef\xbb\xbf" + whole, bad, "a BOM before the magic")
    write("truncated-checksum", whole[:60], bad, "ends inside the checksum")
    write("truncated-header", whole[:200], bad, "ends inside the header")
    write("truncated-payload", whole[:-1], bad, "the last byte is missing")
    write("byte-appended", whole + b"\0", bad, "one byte too many")
    flipped = bytes([whole[-1] ^ 1])
    write("flipped-payload-bit", whole[:-1] + flipped, bad, "damage, not tampering")
    at = whole.index(b'"generation":1') + len('"generation":')
    write(
        "flipped-header-bit",
        whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :],
        bad,
        "damage, not tampering",
    )
    upper = MAGIC + whole[19:83].upper() + whole[83:]
    write("checksum-in-capitals", upper, bad, "hex is lower case")
    write("no-mac-line", frame(line + b"\n" + rest[:0]), bad, "the MAC line is missing")
    write("short-mac", store(mac=lambda m: m[:-2]), bad, "62 digits")
    write("long-mac", store(mac=lambda m: m + b"00"), bad, "66 digits")
    write("no-payload", frame(line + b"\n" + mac + b"\n"), bad, "nothing after the MAC")
    write(
        "payload-of-79-bytes",
        frame(line + b"\n" + mac + b"\n" + rest[:79]),
        bad,
        "shorter than any sealed string",
    )
    write("empty-header", store(b""), bad, "the header line is empty")


def headers() -> None:
    bad = "MalformedKeystore"
    good_line = canonical(header())
    cases: list[tuple[str, Json | bytes, str]] = [
        ("header-not-json", b"hello", "no JSON"),
        ("header-list", b"[]", "a list, not an object"),
        ("header-number", b"1", "a number, not an object"),
        ("header-nesting-bomb", b"[" * 60000, "deeper than any reader"),
        ("header-digit-bomb", b"9" * 60000, "a number no reader needs"),
        ("header-not-utf-8", b'{"generation":"\xff"}', "a byte that is no text"),
        ("header-with-space", good_line.replace(b",", b", ", 1), "white space"),
        (
            "header-duplicate-field",
            b'{"generation":1,' + good_line[1:],
            "the same field twice",
        ),
        (
            "header-fields-out-of-order",
            json.dumps(dict(reversed(sorted(header().items())))).encode(),
            "sorted the other way",
        ),
        (
            "header-second-spelling",
            good_line.replace(b"identity", rb"\u0069dentity", 1),
            "an escape that is not needed",
        ),
        ("header-unknown-field", header(extra=1), "a field the format does not have"),
        ("header-too-long", header(extra="x" * 65536), "above 65,536 bytes"),
        ("version-2", header(version=2), "the header says version 2"),
        ("version-text", header(version="1"), "a string where a number is due"),
        ("version-true", header(version=True), "true is not 1"),
        ("other-suite", header(suite="xchacha20"), "a suite nobody defined"),
        ("generation-0", header(generation=0), "generations start at 1"),
        ("generation-negative", header(generation=-1), "below zero"),
        ("generation-too-large", header(generation=2**53), "not exact in JSON"),
        ("generation-float", header(generation=1.0), "1.0 is not 1"),
        ("generation-null", header(generation=None), "null is no number"),
        ("store-id-short", header(store_id="00" * 15), "15 bytes"),
        ("store-id-long", header(store_id="00" * 17), "17 bytes"),
        ("store-id-capitals", header(store_id="AB" * 16), "hex is lower case"),
        ("store-id-odd", header(store_id="0" * 33), "half a byte"),
        ("no-slots", header([]), "nothing opens it"),
        ("slots-object", header(slots={}), "an object, not a list"),
        (
            "seventeen-slots",
            header([identity_slot(id=f"{i:08x}", label=f"c{i}") for i in range(17)]),
            "one more than allowed",
        ),
    ]
    for name in header():
        lacking = {k: v for k, v in header().items() if k != name}
        cases.append((f"header-without-{name.replace('_', '-')}", lacking, "missing"))
    for name, head, comment in cases:
        write(name, store(head), bad, comment)


def slots() -> None:
    bad, high = "MalformedKeystore", "WorkFactorTooHigh"
    one = identity_slot()
    cases: list[tuple[str, list[Json], str]] = [
        ("slot-number", [1], "a number, not an object"),  # type: ignore[list-item]
        ("slot-of-unknown-kind", [one | {"kind": "x25519"}], "no public-key slots"),
        ("slot-of-kind-null", [one | {"kind": None}], "null is no kind"),
        ("slot-unknown-field", [one | {"extra": 1}], "a field slots do not have"),
        ("slot-id-short", [one | {"id": "000001"}], "three bytes"),
        ("slot-id-number", [one | {"id": 1}], "a number, not hex"),
        ("slot-label-empty", [one | {"label": ""}], "not a name"),
        ("slot-label-with-slash", [one | {"label": "a/b"}], "not a name"),
        ("slot-label-with-line-end", [one | {"label": "a\n"}], "not a name"),
        ("slot-created-tomorrowish", [one | {"created": "soon"}], "not a time"),
        (
            "slot-created-on-february-30",
            [one | {"created": "2026-02-30T00:00:00Z"}],
            "a day that does not exist",
        ),
        (
            "slot-created-with-offset",
            [one | {"created": "2026-01-02T03:04:05+00:00"}],
            "UTC is written Z",
        ),
        ("slot-wrapped-short", [one | {"wrapped": one["wrapped"][:-2]}], "111 bytes"),
        ("slot-wrapped-long", [one | {"wrapped": one["wrapped"] + "00"}], "113 bytes"),
        ("slot-identity-id-short", [one | {"identity_id": "00" * 7}], "seven bytes"),
        (
            "slots-with-one-id",
            [one, identity_slot(label="two")],
            "two slots with the same id",
        ),
        (
            "slots-out-of-order",
            [identity_slot(id="00000002"), identity_slot(label="two")],
            "ids must ascend",
        ),
    ]
    phrase = passphrase_slot("right")
    for field in ("memory_kib", "iterations", "lanes"):
        plain = field.replace("_kib", "")
        cases.append((f"{plain}-zero", [phrase | {field: 0}], "below the bound"))
        cases.append((f"{plain}-text", [phrase | {field: "8"}], "not a number"))
    cases.append(("memory-8191", [phrase | {"memory_kib": 8191}], "just below 8 MiB"))
    cases.append(("salt-short", [phrase | {"salt": "00" * 15}], "15 bytes"))
    for name, given, comment in cases:
        write(name, store(header(given)), bad, comment)
    costly = [
        ("memory-above-2-gib", [phrase | {"memory_kib": 2097153}]),
        ("memory-huge", [phrase | {"memory_kib": 2**52}]),
        ("iterations-17", [phrase | {"iterations": 17}]),
        ("lanes-17", [phrase | {"lanes": 17}]),
        (
            "total-work-too-high",
            [
                phrase | {"id": f"{i:08x}", "memory_kib": 2**21, "iterations": 9}
                for i in range(2)
            ],
        ),
    ]
    for name, given in costly:
        comment = "refused before any work"
        write(name, store(header(given)), high, comment, opener="passphrase: right")
    write(
        "costly-slot-beside-ours",
        store(header([one, phrase | {"iterations": 17}])),
        high,
        "refused even if another slot would open it",
    )


def openers() -> None:
    none = "NoSlotOpens"
    two = header([passphrase_slot("right")])
    write("wrong-passphrase", store(two), none, "wrong", opener="passphrase: wrong")
    write(
        "passphrase-with-other-case",
        store(two),
        none,
        "case",
        opener="passphrase: Right",
    )
    write(
        "wrong-identity",
        store(),
        none,
        "another identity",
        opener=f"identity: {identity_text(OTHER)}",
    )
    write(
        "no-passphrase-slot", store(), none, "identity only", opener="passphrase: right"
    )
    write("no-identity-slot", store(two), none, "passphrase only")
    other_salt = json.loads(canonical(two))
    other_salt["slots"][0]["salt"] = "00" * 16
    write(
        "salt-of-another-slot",
        store(other_salt),
        none,
        "looks like a wrong passphrase",
        opener="passphrase: right",
    )
    stolen = identity_slot(OTHER)
    stolen["identity_id"] = identity_slot()["identity_id"]
    write("slot-under-our-id", store(header([stolen])), none, "wrapped for another")
    slot = identity_slot()
    no_commitment = slot["wrapped"][:64] + "00" * 32 + slot["wrapped"][128:]
    write(
        "slot-commitment-of-another-key",
        store(header([slot | {"wrapped": no_commitment}])),
        none,
        "the commitment comes first",
    )


def block(key: bytes, data: bytes) -> int:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return int.from_bytes(cipher.encryptor().update(data), "big")


def times(x: int, y: int) -> int:
    out = 0
    for bit in range(127, -1, -1):
        out ^= x if (y >> bit) & 1 else 0
        x = (x >> 1) ^ (0xE1 << 120 if x & 1 else 0)
    return out


def inverse(x: int) -> int:
    out, exponent = 1 << 127, (1 << 128) - 2
    while exponent:
        out = times(out, x) if exponent & 1 else out
        x, exponent = times(x, x), exponent >> 1
    return out


def salamander(keys: tuple[bytes, bytes], ads: tuple[bytes, bytes]) -> bytes:
    """Two blocks and a tag that AES-GCM accepts under both keys with their own ads."""
    first = int.from_bytes(rand(16), "big")
    sums, squares = [], []
    for key, ad in zip(keys, ads, strict=True):
        h = block(key, bytes(16))
        padded = ad + bytes(-len(ad) % 16)
        digest = 0
        for at in range(0, len(padded), 16):
            digest = times(digest ^ int.from_bytes(padded[at : at + 16], "big"), h)
        digest = times(digest ^ first, h)  # times h twice more below
        lengths = int.from_bytes(struct.pack(">QQ", 8 * len(ad), 256), "big")
        square = times(h, h)
        mask = block(key, bytes(12) + b"\0\0\0\1")
        sums.append(times(digest, square) ^ times(lengths, h) ^ mask)
        squares.append(square)
    second = times(sums[0] ^ sums[1], inverse(squares[0] ^ squares[1]))
    tag = sums[0] ^ times(second, squares[0])
    return b"".join(part.to_bytes(16, "big") for part in (first, second, tag))


def tampering() -> None:
    bad = "TamperedKeystore"
    slot = identity_slot()
    last = f"{int(slot['wrapped'][-2:], 16) ^ 1:02x}"
    broken = slot | {"wrapped": slot["wrapped"][:-2] + last}
    write("slot-tag-flipped", store(header([broken])), bad, "ours, but altered")
    write("slot-relabelled", store(header([slot | {"label": "x"}])), bad, "the label")
    write("slot-renumbered", store(header([slot | {"id": "00000009"}])), bad, "the id")
    back = slot | {"created": "2020-01-01T00:00:00Z"}
    write("slot-backdated", store(header([back])), bad, "the time")
    foreign = wrap(
        {k: v for k, v in slot.items() if k != "wrapped"},
        IDENTITY,
        store_id=bytes(16),
    )
    write("slot-of-another-store", store(header([foreign])), bad, "not for this store")
    write("mac-flipped", store(mac=lambda m: bytes([m[0] ^ 1]) + m[1:]), bad, "the MAC")
    write("mac-in-capitals", store(mac=bytes.upper), bad, "hex is lower case")
    write("mac-not-hex", store(mac=lambda m: b"z" * 64), bad, "no MAC at all")
    write("mac-of-zeros", store(mac=lambda m: b"0" * 64), bad, "no MAC at all")
    line = canonical(header()) + b"\n"
    later = canonical(header(generation=2)) + b"\n"
    whole = store(line[:-1])
    swapped = later + whole[len(MAGIC) + 65 + len(line) :]
    write("generation-raised", frame(swapped), bad, "a new header on an old body")
    extra = header([slot, identity_slot(OTHER, id="00000002", label="guest")])
    moved = canonical(extra) + b"\n" + whole[len(MAGIC) + 65 + len(line) :]
    write("slot-added-by-a-stranger", frame(moved), bad, "the header is under the MAC")
    write(
        "other-store-key",
        store(key=OTHER),
        bad,
        "MAC and payload under a key that no slot wraps",
    )
    for name, at in (("salt", 0), ("commitment", 40), ("ciphertext", 70), ("tag", -1)):

        def flip(good: bytes, at: int = at) -> bytes:
            edited = bytearray(good)
            edited[at] ^= 0x80
            return bytes(edited)

        write(f"payload-{name}-flipped", store(sealed=flip), bad, f"in the {name}")
    write(
        "payload-cut-by-one", store(sealed=lambda s: s[:-1]), bad, "checksum is right"
    )
    write("payload-longer-by-one", store(sealed=lambda s: s + b"0"), bad, "repaired")
    write(
        "payload-for-another-header",
        store(ad=lambda _: b"other\n" + b"0" * 64 + b"\n"),
        bad,
        "the associated data is another header's",
    )


def salamanders() -> None:
    """A slot that AES-GCM opens under two identities; only one is committed to."""
    plain = {
        k: v for k, v in identity_slot().items() if k not in ("wrapped", "identity_id")
    }
    own = plain | {"identity_id": hkdf(IDENTITY, b"", "identity-id", 8).hex()}
    ad = STORE_ID.hex().encode() + b"\n" + canonical(own)
    salt = rand(32)
    okms = [hkdf(key, salt, "slot/identity", 64) for key in (IDENTITY, OTHER)]
    forged = salamander((okms[0][:32], okms[1][:32]), (ad, ad))
    for okm in okms:  # the forgery is real: plain AES-GCM takes it under both keys
        AESGCM(okm[:32]).decrypt(bytes(12), forged, ad)
    wrapped = (salt + okms[1][32:] + forged).hex()
    write(
        "invisible-salamander",
        store(header([own | {"wrapped": wrapped}])),
        "NoSlotOpens",
        "opens under our key too, but is committed to another",
    )


def payloads() -> None:
    bad = "MalformedKeystore"
    good_body = body()
    empty = payload([])
    entry = canonical(good_body)
    two = [use(kind="run"), use(kind="bundle")]
    raw: list[tuple[str, bytes, str]] = [
        ("payload-empty", b"", "no line about the store"),
        ("payload-without-last-line-end", empty[:-1], "the last LF is missing"),
        ("payload-name-without-body", empty + b"acme\n", "an odd number of lines"),
        ("payload-empty-line-at-the-end", empty + b"\n", "a line too many"),
        ("store-line-not-json", payload([], b"hello"), "no JSON"),
        ("store-line-unknown-field", payload([], b'{"created":1,"x":1}'), "unknown"),
        (
            "store-line-log-not-hex",
            payload([], canonical({"created": TIME, "log": {"count": 1, "head": "z"}})),
            "the head is a digest",
        ),
        ("name-empty", payload([("", good_body)]), "not a name"),
        ("name-with-space", payload([("a b", good_body)]), "not a name"),
        ("name-with-at", payload([("a@1", good_body)]), "@ separates the version"),
        ("name-with-dot-first", payload([(".a", good_body)]), "not a name"),
        ("name-of-65", payload([("x" * 65, good_body)]), "too long"),
        ("name-outside-ascii", payload([("é", good_body)]), "not a name"),
        ("name-twice", payload([("a", good_body), ("a", good_body)]), "twice"),
        ("names-out-of-order", payload([("b", good_body), ("a", good_body)]), "order"),
        ("body-with-space", payload([("a", entry.replace(b",", b", "))]), "canonical"),
    ]
    for name, data, comment in raw:
        write(name, store(plain=data), bad, comment)
    bodies: list[tuple[str, Json, str]] = [
        ("body-unknown-field", body(extra=1), "a field entries do not have"),
        ("primary-missing-version", body(primary=2), "points to nothing"),
        ("primary-null", body(primary=None), "null is no version"),
        ("no-versions", body(versions=[]), "an entry has at least one"),
        ("versions-out-of-order", body(version(2), version(1)), "ids must ascend"),
        ("version-twice", body(version(1), version(1)), "ids must ascend"),
        ("version-id-zero", body(version(0), version(1)), "ids start at 1"),
        ("state-unknown", body(version(1, state="lost")), "no such state"),
        ("compromised-number", body(version(1, compromised=0)), "0 is not false"),
        ("secret-empty", body(version(1, secret="")), "at least one byte"),
        ("secret-too-long", body(version(1, secret="00" * 4097)), "4,097 bytes"),
        ("secret-in-capitals", body(version(1, secret="AB")), "hex is lower case"),
        ("secret-missing", body(version(1, secret=None)), "enabled without a secret"),
        ("secret-of-a-destroyed-version", body(version(1, state="destroyed")), "kept"),
        ("purpose-empty", body(purpose=""), "not a purpose"),
        ("note-too-long", body(note="x" * 1001), "1,001 characters"),
        ("note-with-line-end", body(note="a\nb"), "not printable"),
        ("note-with-lone-surrogate", body(note="\ud800"), "not text"),
        ("policy-incomplete", body(policy={"exportable": False}), "a flag is missing"),
        ("use-of-a-missing-version", body(uses=[use(version=9)]), "points to nothing"),
        ("uses-out-of-order", body(uses=two), "by kind, reference, version"),
        ("use-twice", body(uses=[use(), use(since="2027-01-01T00:00:00Z")]), "twice"),
        ("use-without-reference", body(uses=[use(reference="")]), "empty"),
    ]
    for name, wrong, comment in bodies:
        write(name, store(plain=payload([("acme", wrong)])), bad, comment)


def token_slot(
    key: bytes,
    mechanism: str = "aes-gcm",
    *,
    secret: bytes | None = None,
    ad: bytes = PREFIX + b"pkcs11",
    **fields: object,
) -> Json:
    """A slot for a token that holds the key; what it encrypts is the wrapping key."""
    secret = secret or rand(32)
    nonce = rand(12) if mechanism == "aes-gcm" else b""
    if nonce:
        encrypted = AESGCM(key).encrypt(nonce, secret, ad)
    else:
        encrypted = aes_key_wrap_with_padding(key, secret)
    slot = {
        "created": TIME,
        "id": "00000002",
        "key_id": "0a0b",
        "kind": "pkcs11",
        "label": "hsm",
        "mechanism": mechanism,
        "nonce": nonce.hex(),
        "secret": encrypted.hex(),
    }
    return wrap(slot | fields, secret)


def damaged_token_slots(gcm: Json, kwp: Json) -> list[tuple[str, Json, str]]:
    """Slots whose form alone is wrong, each in one way."""
    cases = [
        ("key-id-empty", gcm | {"key_id": ""}, "no byte"),
        ("key-id-of-65-bytes", gcm | {"key_id": "0a" * 65}, "one byte too many"),
        ("key-id-odd", gcm | {"key_id": "0a0"}, "half a byte"),
        ("key-id-in-capitals", gcm | {"key_id": "0A0B"}, "hex is lower case"),
        ("key-id-number", gcm | {"key_id": 10}, "a number, not hex"),
        ("mechanism-unknown", gcm | {"mechanism": "aes-cbc"}, "nobody defined it"),
        ("mechanism-in-capitals", gcm | {"mechanism": "AES-GCM"}, "another spelling"),
        ("mechanism-null", gcm | {"mechanism": None}, "null is no mechanism"),
        ("mechanism-list", gcm | {"mechanism": ["aes-gcm"]}, "a list, not a name"),
        ("mechanism-empty", gcm | {"mechanism": ""}, "no name"),
        ("mechanism-kwp-with-nonce", gcm | {"mechanism": "aes-kwp"}, "has no nonce"),
        ("mechanism-gcm-without-nonce", kwp | {"mechanism": "aes-gcm"}, "needs one"),
        ("nonce-short", gcm | {"nonce": "00" * 11}, "eleven bytes"),
        ("nonce-long", gcm | {"nonce": "00" * 13}, "thirteen bytes"),
        ("nonce-empty", gcm | {"nonce": ""}, "no byte"),
        ("nonce-null", gcm | {"nonce": None}, "null is not hex"),
        ("nonce-of-kwp", kwp | {"nonce": "00"}, "a byte where there is none"),
        ("secret-short", gcm | {"secret": gcm["secret"][:-2]}, "47 bytes"),
        ("secret-long", gcm | {"secret": gcm["secret"] + "00"}, "49 bytes"),
        ("secret-of-kwp-short", kwp | {"secret": kwp["secret"][:-2]}, "39 bytes"),
        ("secret-of-kwp-long", kwp | {"secret": kwp["secret"] + "00"}, "41 bytes"),
        ("secret-not-hex", gcm | {"secret": "zz" * 48}, "letters that are no digits"),
        ("secret-empty", gcm | {"secret": ""}, "no byte"),
        ("wrapped-short", gcm | {"wrapped": gcm["wrapped"][:-2]}, "111 bytes"),
        ("with-module", gcm | {"module_path": "/lib/a.so"}, "never from the file"),
        ("with-pin", gcm | {"pin": "1234"}, "never from the file"),
        ("with-identity-id", gcm | {"identity_id": "00" * 8}, "of another kind"),
    ]
    for field in ("key_id", "mechanism", "nonce", "secret"):
        lacking = {name: value for name, value in gcm.items() if name != field}
        cases.append((f"without-{field.replace('_', '-')}", lacking, "missing"))
    return cases


def tokens() -> None:
    ok, bad, none = "success", "MalformedKeystore", "NoSlotOpens"
    key, other = rand(32), rand(32)
    with_key, with_other = (f"token: 0a0b {value.hex()}" for value in (key, other))
    gcm, kwp = token_slot(key), token_slot(key, "aes-kwp")
    one = identity_slot()

    def opened(name: str, slots: list[Json], comment: str, opener: str) -> None:
        write(name, store(header(slots)), ok, comment, opener=opener, secrets=ACME)

    ours = f"identity: {identity_text(IDENTITY)}"
    opened("token-gcm", [gcm], "a token with AES-GCM", with_key)
    opened("token-kwp", [kwp], "a token with AES-KWP", with_key)
    opened("token-beside-identity", [one, gcm], "by the token", with_key)
    opened("identity-beside-token-gcm", [one, gcm], "by the identity", ours)
    opened("identity-beside-token-kwp", [one, kwp], "by the identity", ours)
    longest = token_slot(key, key_id="0a" * 64)
    opened("token-key-id-of-64-bytes", [one, longest], "the longest", ours)
    shortest = token_slot(key, key_id="0a")
    opened("token-key-id-of-one-byte", [one, shortest], "the shortest", ours)
    stranger = token_slot(other, id="00000001", label="one", key_id="0c")
    opened("second-token-slot", [stranger, gcm], "by the id of the key", with_key)
    same_id = token_slot(other, id="00000001", label="one")
    opened("second-token-slot-of-one-id", [same_id, gcm], "all are tried", with_key)

    for name, slot, comment in damaged_token_slots(gcm, kwp):
        write(f"token-{name}", store(header([one, slot])), bad, comment)

    def closed(name: str, slot: Json, comment: str, opener: str = with_key) -> None:
        write(name, store(header([slot])), none, comment, opener=opener)

    closed("no-token-slot", one, "identity only")
    closed("no-identity-slot-but-token", gcm, "token only", ours)
    closed("token-other-key", gcm, "the id fits, the key does not", with_other)
    closed("token-other-key-kwp", kwp, "the id fits, the key does not", with_other)
    closed("token-other-key-id", gcm | {"key_id": "0c"}, "the key fits, not the id")
    flip = {"secret": gcm["secret"][:-1] + f"{int(gcm['secret'][-1], 16) ^ 1:x}"}
    closed("token-secret-flipped", gcm | flip, "the token does not decrypt it")
    closed("token-nonce-of-zeros", gcm | {"nonce": "00" * 12}, "another nonce")
    elsewhere = token_slot(key, ad=PREFIX + b"other")
    closed("token-other-associated-data", elsewhere, "not the slot's own")
    lent = gcm | {"wrapped": token_slot(key)["wrapped"]}
    closed("token-wrapped-under-another-secret", lent, "of another slot")
    # AES-KWP pads 25 to 32 bytes alike, so the length of `secret` does not tell.
    short = token_slot(key, "aes-kwp", secret=rand(31))
    closed("token-kwp-of-31-bytes", short, "a slot secret is 32 bytes")
    for name, slot in (
        ("token-slot-relabelled", gcm | {"label": "other"}),
        ("token-slot-of-kwp-relabelled", kwp | {"label": "other"}),
    ):
        data, comment = store(header([slot])), "the tag covers the fields"
        write(name, data, "TamperedKeystore", comment, opener=with_key)


if __name__ == "__main__":
    for old in HERE.glob("*.test"):
        old.unlink()
    for group in (
        good,
        frames,
        headers,
        slots,
        openers,
        tampering,
        salamanders,
        payloads,
        tokens,
    ):
        group()
    print(f"{len(written)} files")
