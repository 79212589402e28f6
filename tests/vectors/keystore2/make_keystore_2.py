"""Write the test kit of keystore format 2 from docs/spec/keystore-v2.md alone.

Imports nothing of ours but the generator of format 1, which does not either. The files
are laid out as its files are. HPKE is written out from RFC 9180, and the hybrid KEM
from draft-ietf-hpke-pq. ML-KEM cannot be told its randomness, so one encapsulation was
drawn once and is kept in `encapsulation.json`; all else is the same in every run.

Run it by hand when the specification gains a case, never to make a failing test pass:
`git diff` must show only added files.
"""

import base64
import copy
import hashlib
import hmac
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

sys.path.insert(0, str(Path(__file__).parents[1] / "keystore"))
import make_keystore as one  # the generator of format 1
from make_keystore import LIGHT, STORE_ID, TIME, Json, canonical, rand

HERE = Path(__file__).parent
MAGIC = b"mlguard keystore 2\n"
PREFIX = b"mlguard/keystore/v2/"
SUITE = "hpke+ed25519+hkdf-sha512+aes-256-gcm+argon2id"
X25519, HYBRID = "x25519", "mlkem768-x25519"
KEM_IDS = {X25519: 0x0020, HYBRID: 0x647A}
one.counter = 100_000  # so that no "random" bytes are those of format 1

IDENTITY, OTHER, PQ = rand(32), rand(32), rand(32)
SEED, SEED_TWO = rand(32), rand(32)
KEYS = [rand(32) for _ in range(4)]
OLD_KEY = rand(32)
written: set[str] = set()


def hkdf512(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    prk = hmac.digest(salt or bytes(64), key, "sha512")
    return hmac.digest(prk, info + b"\x01", "sha512")[:size]


# Key pairs, section 3


class Pairs:
    def __init__(self, seed: bytes, kem: str) -> None:
        def part(use: str, size: int) -> bytes:
            return hkdf512(seed, b"", PREFIX + f"{kem}/{use}".encode(), size)

        self.kem = kem
        self.x25519 = X25519PrivateKey.from_private_bytes(part("x25519", 32))
        self.signing = Ed25519PrivateKey.from_private_bytes(part("ed25519", 32))
        self.verify = self.signing.public_key().public_bytes_raw()
        self.public = self.x25519.public_key().public_bytes_raw()
        self.mlkem = None
        if kem == HYBRID:
            self.mlkem = MLKEM768PrivateKey.from_seed_bytes(part("mlkem768", 64))
            self.public = self.mlkem.public_key().public_bytes_raw() + self.public

    @property
    def labelled(self) -> bytes:
        label = f"mlguard recipient 1 {self.kem}\n".encode()
        return label + self.public + self.verify

    @property
    def id(self) -> str:
        return hashlib.sha256(self.labelled).hexdigest()[:16]


def identity_text(secret: bytes, number: int) -> str:
    label = b"mlguard identity %d" % number
    check = hashlib.sha256(label + secret).digest()[:3]
    body = base64.b32encode(secret + check).decode()
    groups = "-".join(body[i : i + 4] for i in range(0, 56, 4))
    return f"MLGUARD-IDENTITY-{number}-{groups}"


# HPKE, RFC 9180


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    out, block, number = b"", b"", 0
    while len(out) < size:
        number += 1
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        out += block
    return out[:size]


def labelled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    data = b"HPKE-v1" + suite + label + ikm
    return hmac.digest(salt or bytes(32), data, "sha256")


def labelled_expand(
    suite: bytes, prk: bytes, label: bytes, info: bytes, size: int
) -> bytes:
    return expand(
        prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size
    )


def encapsulation(pairs: Pairs) -> tuple[bytes, bytes]:
    """The ciphertext and the secret of ML-KEM; drawn once for each public key."""
    assert pairs.mlkem is not None
    kept = HERE / "encapsulation.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    name = hashlib.sha256(pairs.public).hexdigest()
    if name not in known:
        secret, ciphertext = pairs.mlkem.public_key().encapsulate()
        assert pairs.mlkem.decapsulate(ciphertext) == secret
        known[name] = [ciphertext.hex(), secret.hex()]
        kept.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return bytes.fromhex(known[name][0]), bytes.fromhex(known[name][1])


def hpke(pairs: Pairs, info: bytes, plain: bytes) -> bytes:
    ephemeral = X25519PrivateKey.from_private_bytes(rand(32))
    enc = ephemeral.public_key().public_bytes_raw()
    theirs = pairs.public[-32:]
    exchanged = ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs))
    if pairs.kem == X25519:
        kem = b"KEM" + KEM_IDS[X25519].to_bytes(2, "big")
        prk = labelled_extract(kem, b"", b"eae_prk", exchanged)
        secret = labelled_expand(kem, prk, b"shared_secret", enc + theirs, 32)
    else:
        ciphertext, lattice = encapsulation(pairs)
        mixed = lattice + exchanged + enc + theirs + b"\\.//^\\"
        secret, enc = hashlib.sha3_256(mixed).digest(), ciphertext + enc
    suite = b"HPKE" + KEM_IDS[pairs.kem].to_bytes(2, "big") + b"\x00\x01\x00\x02"
    context = b"\x00" + labelled_extract(suite, b"", b"psk_id_hash", b"")
    context += labelled_extract(suite, b"", b"info_hash", info)
    prk = labelled_extract(suite, secret, b"secret", b"")
    key = labelled_expand(suite, prk, b"key", context, 32)
    nonce = labelled_expand(suite, prk, b"base_nonce", context, 12)
    return enc + AESGCM(key).encrypt(nonce, plain, b"")


# Slots, section 2


def key_id(key: bytes) -> str:
    return hkdf512(key, STORE_ID, PREFIX + b"key-id", 32).hex()


def without(slot: Json, *names: str) -> Json:
    return {name: value for name, value in slot.items() if name not in names}


def digest(slot: Json) -> str:
    return hashlib.sha256(canonical(without(slot, "sealed"))).hexdigest()


def public(pairs: Pairs) -> Json:
    return {
        "kem": pairs.kem,
        "public": pairs.public.hex(),
        "verify": pairs.verify.hex(),
    }


def common(kind: str, number: int, label: str) -> Json:
    return {"created": TIME, "id": f"{number:08x}", "kind": kind, "label": label}


def identity_slot(
    secret: bytes = IDENTITY, kem: str = X25519, number: int = 1, label: str = "ci"
) -> tuple[Json, Pairs]:
    pairs = Pairs(secret, kem)
    slot = common("identity", number, label) | public(pairs)
    return slot | {"identity_id": pairs.id, "seed": ""}, pairs


def with_seed(slot: Json, seed: bytes, key: bytes) -> tuple[Json, Pairs]:
    pairs = Pairs(seed, HYBRID)
    slot = slot | public(pairs)
    ad = STORE_ID.hex().encode() + b"\n" + canonical(slot)
    sealed = one.seal(key, "seed/" + slot["kind"], seed, ad)
    return slot | {"seed": sealed.hex()}, pairs


def passphrase_slot(
    text: str, seed: bytes = SEED, number: int = 2, label: str = "me"
) -> tuple[Json, Pairs]:
    salt = rand(16)
    slot = common("passphrase", number, label) | LIGHT | {"salt": salt.hex()}
    key = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=8192)
    return with_seed(slot, seed, key.derive(text.encode()))


def unrenewed(slot: Json, seed: bytes) -> tuple[Json, Pairs]:
    """A slot of format 1, carried over."""
    return with_seed(slot, seed, OLD_KEY)


def old_identity_slot(number: int = 3, label: str = "old") -> Json:
    keep, one.STORE_KEY = one.STORE_KEY, OLD_KEY
    try:
        return one.identity_slot(OTHER, id=f"{number:08x}", label=label)
    finally:
        one.STORE_KEY = keep


def sealed(slot: Json, pairs: Pairs, key: bytes, **other: str) -> Json:
    parts = {"store": STORE_ID.hex(), "digest": digest(slot), "named": key_id(key)}
    parts |= other
    info = PREFIX + b"store-key\n" + "\n".join(parts.values()).encode()
    return slot | {"sealed": hpke(pairs, info, key).hex()}


# The chain, section 4


START = hashlib.sha256(b"mlguard keystore chain 2\n" + STORE_ID).hexdigest()


def signed(link: Json, signer: Pairs) -> Json:
    message = b"mlguard keystore link 2\n" + STORE_ID + canonical(link)
    return link | {"signature": signer.signing.sign(message).hex()}


def named(slot: Json) -> Json:
    return {"digest": digest(slot), "id": slot["id"], "verify": slot["verify"]}


class Chain:
    """Links that follow each other; any field can be set otherwise."""

    def __init__(self) -> None:
        self.links: list[Json] = []

    def add(
        self,
        signer: Pairs,
        by: str,
        key: bytes,
        *,
        added: list[Json] | None = None,
        removed: list[str] | None = None,
        **fields: object,
    ) -> "Chain":
        previous = START
        if self.links:
            previous = hashlib.sha256(canonical(self.links[-1])).hexdigest()
        link: Json = {
            "added": [named(slot) for slot in added or []],
            "by": by,
            "generation": len(self.links) + 1,
            "key": key_id(key),
            "previous": previous,
            "removed": removed or [],
        }
        self.links.append(signed(link | fields, signer))
        return self


def first(slot: Json, pairs: Pairs, **fields: object) -> Chain:
    return Chain().add(pairs, slot["id"], KEYS[0], added=[slot], **fields)


# Whole files


def header(slots: list[Json], chain: Chain, **fields: object) -> Json:
    base: Json = {
        "chain": chain.links,
        "generation": len(chain.links),
        "slots": slots,
        "store_id": STORE_ID.hex(),
        "suite": SUITE,
        "version": 2,
    }
    return base | fields


def first_line(log_keys: object = ()) -> bytes:
    return canonical({"created": TIME, "log": None, "log_keys": list(log_keys)})


def store(
    head: Json,
    key: bytes = KEYS[0],
    *,
    line: bytes | None = None,
    magic: bytes = MAGIC,
) -> bytes:
    plain = one.payload([("acme", one.body())], line or first_line())
    header_line = canonical(head) + b"\n"
    mac_key = one.hkdf(key, STORE_ID, "header-mac", 32)
    mac = hmac.digest(mac_key, header_line, "sha256").hex().encode() + b"\n"
    rest = header_line + mac + one.seal(key, "payload", plain, header_line + mac)
    return magic + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


OURS = f"identity: {identity_text(IDENTITY, 1)}"
ACME = f"secret: acme 1 {one.SECRETS[1].hex()}"


def write(
    name: str, data: bytes, expect: str, comment: str, opener: str = OURS
) -> None:
    assert name not in written, name
    written.add(name)
    lines = [f"expect: {expect}", f"comment: {comment}", opener]
    lines += [ACME] if expect == "success" else []
    (HERE / f"{name}.test").write_bytes("\n".join(lines).encode() + b"\n\n" + data)


def simple() -> tuple[Json, Pairs, Chain]:
    slot, pairs = identity_slot()
    return slot, pairs, first(slot, pairs)


def good() -> None:
    ok = "success"
    slot, pairs, chain = simple()
    one_slot = sealed(slot, pairs, KEYS[0])
    write("one-key", store(header([one_slot], chain)), ok, "the smallest store")
    hybrid, both = identity_slot(PQ, HYBRID)
    write(
        "hybrid-identity",
        store(header([sealed(hybrid, both, KEYS[0])], first(hybrid, both))),
        ok,
        "an identity of the hybrid KEM",
        f"identity: {identity_text(PQ, 2)}",
    )
    me, mine = passphrase_slot("right")
    write(
        "passphrase",
        store(header([sealed(me, mine, KEYS[0])], first(me, mine))),
        ok,
        "a slot seed under a passphrase",
        "passphrase: right",
    )
    two = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    slots = [one_slot, sealed(me, mine, KEYS[0])]
    write("added-identity", store(header(slots, two)), ok, "who adds")
    write(
        "added-passphrase",
        store(header(slots, two)),
        ok,
        "who was added, under the same store key",
        "passphrase: right",
    )
    gone = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    gone.add(mine, me["id"], KEYS[1], removed=[slot["id"]])
    write(
        "removed",
        store(header([sealed(me, mine, KEYS[1])], gone), KEYS[1]),
        ok,
        "the remaining member, under a new store key",
        "passphrase: right",
    )
    write(
        "removed-member",
        store(header([sealed(me, mine, KEYS[1])], gone), KEYS[1]),
        "NoSlotOpens",
        "who was removed",
    )
    later = header([one_slot], chain, generation=2**53 - 1)
    write("largest-generation", store(later), ok, "the last generation there is")
    epochs = first_line([{"key": "ab" * 32, "last": 3}, {"key": "cd" * 32, "last": 9}])
    write(
        "log-keys",
        store(header([one_slot], chain), line=epochs),
        ok,
        "keys of earlier records of the log",
    )
    new, ours = identity_slot(OTHER, number=4, label="new")
    swap = first(slot, pairs)
    swap.add(pairs, slot["id"], KEYS[1], added=[new], removed=[slot["id"]])
    write(
        "replaced",
        store(header([sealed(new, ours, KEYS[1])], swap), KEYS[1]),
        ok,
        "one link removes and adds",
        f"identity: {identity_text(OTHER, 1)}",
    )


def upgraded() -> None:
    """Section 6: a slot of format 1 that its owner has not renewed."""
    slot, pairs, _ = simple()
    old, theirs = unrenewed(old_identity_slot(), SEED)
    before, before_pairs = unrenewed(
        one.identity_slot(IDENTITY, id="00000009", label="ci"), SEED_TWO
    )
    chain = Chain().add(before_pairs, before["id"], OLD_KEY, added=[old, before])
    chain.add(before_pairs, before["id"], KEYS[0], added=[slot], removed=[before["id"]])
    slots = [sealed(slot, pairs, KEYS[0]), sealed(old, theirs, KEYS[0])]
    good_one = header(slots, chain)
    write("upgraded", store(good_one), "success", "who upgraded it")
    owner = f"identity: {identity_text(OTHER, 1)}"
    write("unrenewed", store(good_one), "success", "by a slot of format 1", owner)
    for name in ("wrapped", "seed"):
        bad = copy.deepcopy(slots)
        bad[1][name] = flipped(bad[1][name])
        data = store(header(bad, chain))
        write(f"unrenewed-{name}-flipped", data, "TamperedKeystore", name, owner)
    short = copy.deepcopy(slots)
    short[1]["wrapped"] = short[1]["wrapped"][2:]
    data = store(header(short, chain))
    write("unrenewed-wrapped-short", data, "MalformedKeystore", "111 bytes", owner)
    mixed = copy.deepcopy(slots)
    mixed[1]["kem"] = X25519
    data = store(header(mixed, chain))
    write("unrenewed-of-x25519", data, "MalformedKeystore", "only hybrid", owner)


def flipped(digits: str) -> str:
    return digits[:-1] + f"{int(digits[-1], 16) ^ 1:x}"


def forms() -> None:
    bad = "MalformedKeystore"
    slot, pairs, chain = simple()
    head = header([sealed(slot, pairs, KEYS[0])], chain)
    write("version-1-inside", store(head | {"version": 1}), bad, "under magic 2")
    write("version-3-inside", store(head | {"version": 3}), bad, "under magic 2")
    data = store(head, magic=b"mlguard keystore 1\n")
    write("magic-of-format-1", data, bad, "a header of format 2")
    data = store(head, magic=b"mlguard keystore 3\n")
    write("magic-of-format-3", data, bad, "a later format")
    data = store(head, magic=b"mlguard keystore 2\r\n")
    write("line-ends-converted", data, bad, "as for a text file")
    write("suite-of-format-1", store(head | {"suite": one.SUITE}), bad, "the suite")
    write("no-chain", store(without(head, "chain")), bad, "the field is missing")
    write("empty-chain", store(head | {"chain": []}), bad, "no link")
    write("chain-of-text", store(head | {"chain": ["x"]}), bad, "no object")
    plain = canonical({"created": TIME, "log": None})
    write("no-log-keys", store(head, line=plain), bad, "the line of format 1")
    swapped = [{"key": "ab" * 32, "last": 9}, {"key": "cd" * 32, "last": 3}]
    data = store(head, line=first_line(swapped))
    write("log-keys-out-of-order", data, bad, "9 before 3")
    data = store(head, line=first_line([{"key": "ab", "last": 9}]))
    write("log-key-short", data, bad, "one byte")
    edits: dict[str, Json] = {
        "kem-unknown": {"kem": "x448"},
        "kem-p256": {"kem": "p256"},
        "kem-of-the-other": {"kem": HYBRID},
        "public-short": {"public": slot["public"][2:]},
        "public-in-capitals": {"public": slot["public"].upper()},
        "verify-short": {"verify": slot["verify"][2:]},
        "seed-in-identity-slot": {"seed": "00" * 112},
        "sealed-short": {"sealed": head["slots"][0]["sealed"][2:]},
        "sealed-long": {"sealed": head["slots"][0]["sealed"] + "00"},
        "field-unknown": {"extra": 1},
    }
    for name, fields in edits.items():
        data = store(head | {"slots": [head["slots"][0] | fields]})
        write(f"slot-{name}", data, bad, name.replace("-", " "))
    for name in ("kem", "public", "verify", "seed", "sealed"):
        data = store(head | {"slots": [without(head["slots"][0], name)]})
        write(f"slot-without-{name}", data, bad, "the field is missing")
    me, mine = passphrase_slot("right")
    weak = sealed(me, mine, KEYS[0]) | {"kem": X25519, "public": "00" * 32}
    data = store(header([weak], first(me, mine)))
    write("passphrase-of-x25519", data, bad, "hybrid only", "passphrase: right")
    bare = sealed(me, mine, KEYS[0]) | {"seed": ""}
    data = store(header([bare], first(me, mine)))
    write("passphrase-without-seed", data, bad, "no seed", "passphrase: right")
    link = chain.links[0]
    links: dict[str, Json] = {
        "signature-short": {"signature": link["signature"][2:]},
        "key-short": {"key": link["key"][2:]},
        "previous-number": {"previous": 1},
        "by-long": {"by": "0000000001"},
        "generation-0": {"generation": 0},
        "generation-text": {"generation": "1"},
        "of-nothing": {"added": []},
        "field-unknown": {"extra": 1},
        "added-twice": {"added": [link["added"][0], link["added"][0]]},
        "removed-number": {"removed": [1]},
        "removed-out-of-order": {"removed": ["00000002", "00000001"]},
        "member-without-digest": {"added": [without(link["added"][0], "digest")]},
    }
    for name, fields in links.items():
        data = store(head | {"chain": [link | fields]})
        write(f"link-{name}", data, bad, name.replace("-", " "))


def tampering() -> None:
    bad = "TamperedKeystore"
    slot, pairs, chain = simple()
    ours = sealed(slot, pairs, KEYS[0])
    me, mine = passphrase_slot("right")
    theirs = sealed(me, mine, KEYS[0])

    def case(name: str, slots: list[Json], made: Chain, comment: str) -> None:
        write(name, store(header(slots, made)), bad, comment)

    case("sealed-flipped", [ours | {"sealed": flipped(ours["sealed"])}], chain, "tag")
    case("slot-relabelled", [ours | {"label": "other"}], chain, "the digest covers it")
    case(
        "sealed-for-another-store",
        [sealed(slot, pairs, KEYS[0], store="00" * 16)],
        chain,
        "info has the store id",
    )
    case(
        "sealed-for-another-slot",
        [sealed(slot, pairs, KEYS[0], digest="00" * 32)],
        chain,
        "info has the digest",
    )
    case(
        "sealed-for-another-key-id",
        [sealed(slot, pairs, KEYS[0], named="00" * 32)],
        chain,
        "info has the key id",
    )
    stranger = sealed(slot, pairs, KEYS[2], named=key_id(KEYS[0]))
    data = store(header([stranger], chain), KEYS[2])
    write("store-key-nobody-signed", data, bad, "well wrapped, but not of the chain")
    case("slot-nobody-added", [ours, theirs], chain, "not in the chain")
    two = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    case("slot-left-out", [ours], two, "in the chain, but not a slot")
    link = chain.links[0]
    edited = Chain()
    edited.links = [link | {"signature": flipped(link["signature"])}]
    case("signature-flipped", [ours], edited, "the first link")
    self_added = first(slot, pairs).add(mine, me["id"], KEYS[0], added=[me])
    case("slot-adds-itself", [ours, theirs], self_added, "no member before")
    forged = first(slot, pairs).add(mine, slot["id"], KEYS[0], added=[me])
    case("signed-with-another-key", [ours, theirs], forged, "in a member's name")
    other, others = identity_slot(OTHER, number=5, label="new")
    back = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    back.add(pairs, slot["id"], KEYS[1], removed=[me["id"]])
    back.add(mine, me["id"], KEYS[1], added=[other])
    slots = [sealed(slot, pairs, KEYS[1]), sealed(other, others, KEYS[1])]
    data = store(header(slots, back), KEYS[1])
    write("removed-member-adds", data, bad, "signed by who was removed")
    same = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    same.add(pairs, slot["id"], KEYS[0], removed=[me["id"]])
    case("removed-under-the-same-key", [ours], same, "no new store key")
    fresh = first(slot, pairs).add(pairs, slot["id"], KEYS[1], added=[me])
    slots = [sealed(slot, pairs, KEYS[1]), sealed(me, mine, KEYS[1])]
    data = store(header(slots, fresh), KEYS[1])
    write("added-under-another-key", data, bad, "a new store key for nothing")
    nobody = first(slot, pairs)
    nobody.add(pairs, slot["id"], KEYS[1], added=[me], removed=["000000ff"])
    slots = [sealed(slot, pairs, KEYS[1]), sealed(me, mine, KEYS[1])]
    data = store(header(slots, nobody), KEYS[1])
    write("removed-who-was-none", data, bad, "no such member")
    twice = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[slot])
    case("added-who-was-one", [ours], twice, "a member already")
    fields: dict[str, Json] = {
        "previous-of-zeros": {"previous": "00" * 32},
        "generation-above-the-header": {"generation": 9},
    }
    nobody = Chain().add(pairs, "000000ff", KEYS[0], added=[slot])
    case("first-by-nobody", [ours], nobody, "signed by none of the added")
    for name, changed in fields.items():
        case(name, [ours], first(slot, pairs, **changed), name.replace("-", " "))
    falling = first(slot, pairs, generation=2)
    falling.add(pairs, slot["id"], KEYS[0], added=[me], generation=1)
    data = store(header([ours, theirs], falling, generation=3))
    write("generation-falls", data, bad, "2, then 1")
    unsigned = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    unsigned.links.reverse()
    case("links-out-of-order", [ours, theirs], unsigned, "the second comes first")
    cut = first(slot, pairs).add(pairs, slot["id"], KEYS[0], added=[me])
    cut.links = cut.links[1:]
    case("first-link-missing", [ours, theirs], cut, "begins with the second")
    empty = first(slot, pairs)
    empty.add(pairs, slot["id"], KEYS[1], removed=[slot["id"]])
    empty.add(pairs, slot["id"], KEYS[1], added=[slot])
    data = store(header([sealed(slot, pairs, KEYS[1])], empty), KEYS[1])
    write("nobody-in-between", data, bad, "a store without members")
    swapped = ours | {"verify": mine.verify.hex()}
    case("verify-of-another", [swapped], chain, "not that of the seed")
    of_another = sealed(other, others, KEYS[0]) | {"identity_id": slot["identity_id"]}
    made = first(of_another, pairs)
    case("public-of-another", [of_another], made, "not that of the identity")
    head = header([ours], chain)
    data = store(head)
    raised = canonical(head | {"generation": 2})
    data = data.replace(canonical(head), raised)
    data = MAGIC + hashlib.sha256(data[84:]).hexdigest().encode() + b"\n" + data[84:]
    write("generation-raised", data, bad, "the MAC covers the header")
    seed = theirs | {"seed": flipped(theirs["seed"])}
    data = store(header([seed], first(me, mine)))
    write("seed-flipped", data, bad, "the tag of the seed", "passphrase: right")


def closed() -> None:
    none = "NoSlotOpens"
    slot, pairs, chain = simple()
    data = store(header([sealed(slot, pairs, KEYS[0])], chain))
    other = f"identity: {identity_text(OTHER, 1)}"
    write("another-identity", data, none, "not a member", other)
    hybrid = f"identity: {identity_text(IDENTITY, 2)}"
    write("identity-of-the-other-kem", data, none, "the same secret", hybrid)
    write("no-passphrase-slot", data, none, "identity only", "passphrase: right")
    me, mine = passphrase_slot("right")
    data = store(header([sealed(me, mine, KEYS[0])], first(me, mine)))
    write("wrong-passphrase", data, none, "another passphrase", "passphrase: left")
    costly = sealed(me, mine, KEYS[0]) | {"memory_kib": 2**21 + 1}
    data = store(header([costly], first(me, mine)))
    write("costly", data, "WorkFactorTooHigh", "before any work", "passphrase: right")


if __name__ == "__main__":
    groups: tuple[Callable[[], Any], ...] = (good, upgraded, forms, tampering, closed)
    for old in HERE.glob("*.test"):
        old.unlink()
    for group in groups:
        group()
    print(f"{len(written)} files")
