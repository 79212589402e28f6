"""Make issued.json: issued bundles, grants and lists, one fault each.

Imports nothing of mlguard: a second writer of docs/spec/bundle-v2.md, grants-v1.md and
sealed-tensors-v1.md, in plain Python with `cryptography`. Run by hand: HPKE and ECDSA
draw random numbers, so the file is made once and kept.
"""

import base64
import hashlib
import hmac
import json
import struct
import zlib
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
OWNER = ec.derive_private_key(int.from_bytes(bytes(range(1, 33))), ec.SECP256R1())
STRANGER = ec.derive_private_key(int.from_bytes(bytes(range(2, 34))), ec.SECP256R1())
MODEL_KEY, PROTECTION_ID = bytes(range(32)), bytes(range(16))
MINE, OTHER = bytes(range(32)), bytes(range(1, 33))  # seeds of identities
SALT, GRANT_ID = bytes(range(0x80, 0xA0)), "12" * 16
TODAY = "2026-06-01"
LABEL = b"mlguard/sealed-tensors/v1/"
DOMAIN = b"mlguard.sealed-tensors/1\0"
W, B = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<4f", 5, 6, 7, 8)


def hkdf(digest, secret, salt, info, size):
    return HKDF(digest, size, salt, info).derive(secret)


def subkey(use):
    info = b"mlguard/v1/" + use.encode()
    return hkdf(hashes.SHA256(), MODEL_KEY, PROTECTION_ID, info, 32)


KEY_ID = hkdf(hashes.SHA256(), MODEL_KEY, b"", b"mlguard/v1/key-id", 32).hex()[:16]
CONTENT_KEY = subkey("issue/content-key/" + GRANT_ID)


def identity(seed):
    """Private key and recipient line of an identity."""

    def part(use):
        info = b"mlguard/keystore/v2/x25519/" + use
        return hkdf(hashes.SHA512(), seed, b"", info, 32)

    private = x25519.X25519PrivateKey.from_private_bytes(part(b"x25519"))
    public = private.public_key().public_bytes_raw()
    signs = Ed25519PrivateKey.from_private_bytes(part(b"ed25519"))
    verify = signs.public_key().public_bytes_raw()
    labelled = b"mlguard recipient 1 x25519\n" + public + verify
    check = hashlib.sha256(b"checksum\n" + labelled).digest()[:4]
    body = base64.b32encode(public + verify + check).decode().rstrip("=").lower()
    return private, "mlguard-recipient-1-x25519-" + body


def canonical(value):
    options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    return json.dumps(value, **options).encode()


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def envelope(text, kind, key=OWNER):
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(text), text)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return canonical(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(pem(key)).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(text).decode(),
                "payloadType": kind,
                "signatures": [
                    {"keyid": "", "sig": base64.b64encode(signature).decode()}
                ],
            },
        }
    )


# --- ONNX, on the wire ---


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number * 8 + 2) + varint(len(data)) + data


def outside(name, location=None):
    """An initializer float32 (4) whose data are elsewhere."""
    entry = field(1, "location") + field(2, location or name)
    return field(1, 4) + field(2, 1) + field(8, name) + field(13, entry) + field(14, 1)


def value_info(name):
    kind = field(1, field(1, 1) + field(2, field(1, field(1, 4))))
    return field(1, name) + field(2, kind)


def node(kind, inputs, output):
    named = b"".join(field(1, one) for one in inputs)
    return named + field(2, output) + field(4, kind)


def graph(initializers=None, opset=20):
    """y = (x + w) * b."""
    given = initializers or [outside("w"), outside("b")]
    body = field(1, node("Add", ["x", "w"], "h")) + field(
        1, node("Mul", ["h", "b"], "y")
    )
    body += field(2, "model") + b"".join(field(5, one) for one in given)
    body += field(11, value_info("x")) + field(12, value_info("y"))
    return field(1, 10) + field(7, body) + field(8, field(1, "") + field(2, opset))


# --- the file ---


class File:
    """A file key and what is sealed under it."""

    def __init__(self, content_key=CONTENT_KEY, salt=SALT):
        okm = hkdf(hashes.SHA512(), content_key, salt, LABEL + b"root", 96)
        self.root, self.commitment = okm[:64], okm[64:]

    def key(self, label):
        info = LABEL + label.encode() + b"\x01"
        return hmac.digest(self.root, info, "sha512")[:32]

    def blob(self, name, data):
        associated = DOMAIN + b"blob\0" + name.encode()
        sealed = AESGCM(self.key(f"blob/{name}")).encrypt(bytes(12), data, associated)
        return sealed[:-16], sealed[-16:]

    def tensor(self, index, name, data):
        numbers = struct.pack("<5IQ", index, 1, 0, 1, 1, 4)
        title = struct.pack("<I", len(name)) + name.encode()
        key = self.key(f"tensor/{index}")
        sealed = AESGCM(key).encrypt(bytes(12), data, DOMAIN + numbers + title)
        return sealed[:-16], sealed[-16:]

    def mac(self, manifest):
        given = {k: v for k, v in manifest.items() if k != "mac"}
        return hmac.digest(
            self.key("bundle/manifest"), canonical(given), "sha256"
        ).hex()


class Issued:
    """An issued bundle, changed in one place before it is put together.

    `change` gets this object at the stage that its name says.
    """

    def __init__(self, stage=None, change=None):
        self.stage, self.change = stage, change
        self.file = File()
        self.tensors = [("w", W), ("b", B)]
        self.graph = graph()
        self.at("start")
        sealed = [self.file.tensor(i, *t) for i, t in enumerate(self.tensors)]
        self.ciphertexts = [one for one, _ in sealed]
        self.rows = [
            {"name": name, "shape": [4], "tags": [tag.hex()], "type": 1}
            for (name, _), (_, tag) in zip(self.tensors, sealed, strict=True)
        ]
        self.at("rows")
        self.table = canonical(self.rows)
        self.weights = self.ciphertexts[0].ljust(64, b"\0") + self.ciphertexts[1]
        self.at("weights")
        self.blobs = {}
        for name, data in (
            ("tensors.json.enc", self.table),
            ("graph.onnx.enc", self.graph),
        ):
            self.blobs[name] = list(self.file.blob(name, data))
        self.at("blobs")
        self.manifest = self.make_manifest()
        self.at("manifest")
        self.manifest["mac"] = self.file.mac(self.manifest)
        self.at("mac")
        self.text = canonical(self.manifest)
        self.at("text")
        self.members = {
            "manifest.json": self.text,
            **{name: blob for name, (blob, _) in self.blobs.items()},
            "weights.bin": self.weights,
        }
        self.recipient = MINE
        self.signer = OWNER
        self.grant = self.make_grant()
        self.at("grant")
        self.wrap()
        self.at("wrapped")
        kind = "application/vnd.mlguard.grant+json"
        self.members["grant.json"] = envelope(canonical(self.grant), kind, self.signer)
        self.at("signed")
        self.members["model.sig"] = self.sign()
        self.at("members")
        self.content = zipped(self.members)
        self.at("content")

    def at(self, stage):
        if stage == self.stage:
            self.change(self)

    def make_manifest(self):
        files = {
            name: {
                "crc32": f"{zlib.crc32(blob):08x}",
                "size": len(blob),
                "tag": tag.hex(),
            }
            for name, (blob, tag) in self.blobs.items()
        }
        files["weights.bin"] = {
            "crc32": f"{zlib.crc32(self.weights):08x}",
            "size": len(self.weights),
            "tag": None,
        }
        return {
            "schema": "mlguard.bundle/2",
            "protection_id": PROTECTION_ID.hex(),
            "key_id": KEY_ID,
            "issued": True,
            "salt": SALT.hex(),
            "key_commitment": self.file.commitment.hex(),
            "seal": {"suite": "sealed-tensors/1", "graph": True, "weights": True},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [4]}],
            "opsets": {"": 20},
            "image": None,
            "task": None,
            "feature_maps": [],
            "coverage": {"size": 32, "covered": 32, "share": 1.0, "plain": []},
            "licence": "",
            "provenance": {"recipe": None, "data": None, "versions": {}},
            "audit": None,
            "files": files,
            "selftest": None,
        }

    def make_grant(self):
        _, line = identity(MINE)
        return {
            "format": "mlguard.grant/1",
            "grant_id": GRANT_ID,
            "bundle_sha256": hashlib.sha256(self.text).hexdigest(),
            "protection_id": PROTECTION_ID.hex(),
            "key_id": KEY_ID,
            "signer": pem(OWNER).decode(),
            "recipient": line,
            "licensee": "Hospital Ä",
            "terms": "One\nTwo",
            "issued": "2026-01-01T00:00:00Z",
            "not_before": "2026-01-01",
            "not_after": "2026-12-31",
            "revocations": 3,
        }

    def wrap(self, secrets=None):
        given = {k: v for k, v in self.grant.items() if k != "wrapped"}
        info = b"mlguard/grant/v1\0" + canonical(given)
        plain = secrets or canonical({"content_key": CONTENT_KEY.hex(), "subkeys": {}})
        public = identity(self.recipient)[0].public_key()
        self.grant["wrapped"] = SUITE.encrypt(plain, public, info=info).hex()

    def sign(self, key=OWNER, **changes):
        hashed = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in self.members.items()
        } | changes
        names = sorted(name for name in hashed if hashed[name])
        root = hashlib.sha256(b"".join(bytes.fromhex(hashed[n]) for n in names))
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "acme", "digest": {"sha256": root.hexdigest()}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "resources": [
                    {"name": n, "algorithm": "sha256", "digest": hashed[n]}
                    for n in names
                ],
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": ["model.sig"],
                },
            },
        }
        return envelope(canonical(statement), "application/vnd.in-toto+json", key)


ORDER = (
    *("manifest.json", "tensors.json.enc", "graph.onnx.enc", "weights.bin"),
    *("grant.json", "model.sig"),
)


def zipped(members, order=ORDER, date=0x21):
    """The ZIP file of section 1."""
    out, entries = bytearray(), bytearray()
    present = [name for name in order if name in members]
    for name in present:
        content, at = members[name], len(out)
        crc, size = zlib.crc32(content), len(content)
        extra = struct.pack("<2H2Q", 1, 16, size, size)
        if name == "weights.bin":
            head = at + 30 + len(name) + len(extra) + 4
            room = -head % 4096
            extra += struct.pack("<2H", 0xD935, room) + bytes(room)
        common = struct.pack("<5H3I", 45, 0, 0, 0, date, crc, 0xFFFFFFFF, 0xFFFFFFFF)
        out += b"PK\3\4" + common + struct.pack("<2H", len(name), len(extra))
        out += name.encode() + extra + content
        placed = struct.pack("<2H3Q", 1, 24, size, size, at)
        entries += b"PK\1\2" + struct.pack("<H", 45) + common
        entries += struct.pack("<5H2I", len(name), len(placed), 0, 0, 0, 0, 0xFFFFFFFF)
        entries += name.encode() + placed
    at, count, size = len(out), len(present), len(entries)
    out += entries
    out += b"PK\6\6" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, count, count, size, at)
    out += b"PK\6\7" + struct.pack("<IQI", 0, at + size, 1)
    out += b"PK\5\6" + struct.pack("<4H2IH", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    return bytes(out)


CASES = []


def case(comment, expect, stage=None, change=None, **given):
    """One vector; `given` says who opens it, and under what."""
    made = Issued(stage, change)
    CASES.append(
        {
            "comment": comment,
            "expect": expect,
            "bundle": base64.b64encode(zlib.compress(made.content, 9)).decode(),
        }
        | given
    )


def sets(path, value):
    """A change of one field: `a.b` of the object that the stage is named for."""

    def change(made):
        name, *parts = path.split(".")
        target = getattr(made, name)
        for part in parts[:-1]:
            target = target[int(part) if part.isdigit() else part]
        target[parts[-1]] = value

    return change


def flips(name, place):
    def change(made):
        data = bytearray(getattr(made, name))
        data[place] ^= 1
        setattr(made, name, bytes(data))

    return change


def resealed(name, text):
    """Another content of a blob, sealed with the right key."""

    def change(made):
        made.blobs[name] = list(made.file.blob(name, text(made)))

    return change


def retext(old, new):
    def change(made):
        assert old in made.text
        made.text = made.text.replace(old, new, 1)

    return change


def do(*statements):
    def change(made):
        for one in statements:
            one(made)

    return change


BAD, TAMPERED, WRONG = "MalformedBundle", "TamperedBundle", "WrongKey"
FOREIGN = "SignatureNotTrusted"
PIN = {"signers": [pem(OWNER).decode()]}

case("as it should be", "ok")
case("as it should be, with a pinned signer", "ok", **PIN)

# the archive
case("an empty file", BAD, "content", lambda m: setattr(m, "content", b""))
case("another first byte", BAD, "content", flips("content", 0))
case(
    "the last byte cut off",
    BAD,
    "content",
    lambda m: setattr(m, "content", m.content[:-1]),
)
case(
    "half of the file",
    BAD,
    "content",
    lambda m: setattr(m, "content", m.content[: len(m.content) // 2]),
)
case(
    "a byte after the end",
    BAD,
    "content",
    lambda m: setattr(m, "content", m.content + b"\0"),
)
case("another byte in the directory", BAD, "content", flips("content", -60))
case("another byte in the end record", BAD, "content", flips("content", -1))
case(
    "another time stamp",
    BAD,
    "content",
    lambda m: setattr(m, "content", zipped(m.members, date=0x22)),
)
case(
    "members in another order",
    BAD,
    "content",
    lambda m: setattr(
        m,
        "content",
        zipped(m.members, order=(ORDER[0], *ORDER[2:4], ORDER[1], *ORDER[4:])),
    ),
)
case("weights that are missing", BAD, "members", lambda m: m.members.pop("weights.bin"))
case(
    "a manifest without its checksum",
    BAD,
    "content",
    lambda m: setattr(
        m,
        "content",
        m.content.replace(struct.pack("<I", zlib.crc32(m.text)), bytes(4), 1),
    ),
)
case(
    "no grant in an issued file",
    "BundleError",
    "members",
    lambda m: m.members.pop("grant.json"),
)

# the manifest
case("white space", BAD, "text", retext(b'":', b'": '))
case(
    "a key twice",
    BAD,
    "text",
    lambda m: setattr(m, "text", b'{"audit":null,' + m.text[1:]),
)
case(
    "keys that are not sorted",
    BAD,
    "text",
    lambda m: setattr(
        m, "text", b'{"task":null,' + m.text[1:].replace(b',"task":null', b"")
    ),
)
case("an unknown field", BAD, "manifest", sets("manifest.extra", 1))
case("a field that is missing", BAD, "manifest", lambda m: m.manifest.pop("licence"))
case("text in place of a number", BAD, "manifest", sets("manifest.coverage.size", "32"))
case(
    "a newer format",
    "BundleError",
    "manifest",
    sets("manifest.schema", "mlguard.bundle/3"),
)
case("the format before", BAD, "manifest", sets("manifest.schema", "mlguard.bundle/1"))
case(
    "a suite that nobody knows",
    BAD,
    "manifest",
    sets("manifest.seal.suite", "sealed-tensors/2"),
)
case(
    "a sealed graph with weights in the clear",
    BAD,
    "manifest",
    sets("manifest.seal.weights", False),
)
case(
    "coverage that does not add up",
    BAD,
    "manifest",
    sets("manifest.coverage.covered", 31),
)
case(
    "a share that is not the quotient",
    BAD,
    "manifest",
    sets("manifest.coverage.share", 0.5),
)
case(
    "a task without its output",
    BAD,
    "manifest",
    sets(
        "manifest.task",
        {
            "name": "classification",
            "output": "z",
            "class_names": ["a", "b"],
            "ignore_index": None,
            "stride": 1,
            "labels": None,
            "scores": None,
        },
    ),
)
case(
    "an image that is no input",
    BAD,
    "manifest",
    sets(
        "manifest.image",
        {
            "input": "z",
            "layout": "NCHW",
            "colours": "RGB",
            "channels": 3,
            "range": [0.0, 1.0],
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "size": [4, 4],
            "resize": {"rule": "pad", "multiple": 1, "shorter_side": None},
            "transform": None,
        },
    ),
)
case(
    "an input twice",
    BAD,
    "manifest",
    lambda m: m.manifest["inputs"].append(m.manifest["inputs"][0]),
)
case("a shape below minus one", BAD, "manifest", sets("manifest.inputs.0.shape", [-2]))
case(
    "a type that there is not",
    BAD,
    "manifest",
    sets("manifest.inputs.0.datatype", "FP31"),
)
case("no outputs", BAD, "manifest", sets("manifest.outputs", []))
case(
    "a self-test without a transform",
    BAD,
    "manifest",
    sets("manifest.selftest", "00" * 32),
)
case(
    "control characters in the licence",
    BAD,
    "manifest",
    sets("manifest.licence", "\x1b[2J"),
)
case(
    "a member that is not named",
    BAD,
    "manifest",
    lambda m: m.manifest["files"].pop("weights.bin"),
)
case(
    "a tag of the weights as a whole",
    BAD,
    "manifest",
    lambda m: m.manifest["files"]["weights.bin"].update(tag="00" * 16),
)
case(
    "a size above the limit",
    BAD,
    "manifest",
    lambda m: m.manifest["files"]["weights.bin"].update(size=1 << 47),
)
case(
    "another commitment",
    TAMPERED,
    "manifest",
    sets("manifest.key_commitment", "00" * 32),
)
case("another salt", TAMPERED, "manifest", sets("manifest.salt", "00" * 32))
case("another MAC", TAMPERED, "mac", sets("manifest.mac", "00" * 32))
case(
    "a licence edited after the MAC", TAMPERED, "mac", sets("manifest.licence", "free")
)
case(
    "the owner's own file, as it says",
    "BundleError",
    "manifest",
    sets("manifest.issued", False),
)

# table, graph, tensors
case(
    "another tag of the table",
    TAMPERED,
    "blobs",
    lambda m: m.blobs["tensors.json.enc"].__setitem__(1, bytes(16)),
)
case(
    "another tag of the graph",
    TAMPERED,
    "blobs",
    lambda m: m.blobs["graph.onnx.enc"].__setitem__(1, bytes(16)),
)
case(
    "a table with white space",
    BAD,
    "blobs",
    resealed("tensors.json.enc", lambda m: m.table + b" "),
)
case(
    "a table that is no list",
    BAD,
    "blobs",
    resealed("tensors.json.enc", lambda m: b"{}"),
)
case(
    "a tensor twice",
    BAD,
    "blobs",
    resealed("tensors.json.enc", lambda m: canonical([m.rows[0], m.rows[0]])),
)
case("a tensor with an unknown field", BAD, "rows", sets("rows.0.extra", 1))
case("a tensor of a type that there is not", BAD, "rows", sets("rows.0.type", 99))
case("a tensor with a negative size", BAD, "rows", sets("rows.0.shape", [-4]))
case("a tensor larger than the file", BAD, "rows", sets("rows.0.shape", [1 << 40]))
case(
    "a tensor with two tags", BAD, "rows", lambda m: m.rows[0]["tags"].append("00" * 16)
)
case("a tensor without a name", BAD, "rows", sets("rows.0.name", ""))
case("a name with control characters", BAD, "rows", sets("rows.0.name", "\x07"))
case("a renamed tensor", BAD, "rows", sets("rows.0.name", "v"))
case("a retyped tensor", TAMPERED, "rows", sets("rows.0.type", 6))
case("a reshaped tensor", TAMPERED, "rows", sets("rows.0.shape", [2, 2]))
case("another tag of a tensor", TAMPERED, "rows", sets("rows.1.tags", ["00" * 16]))
case("a flipped bit of a tensor", TAMPERED, "weights", flips("weights", 3))
case(
    "two tensors exchanged",
    TAMPERED,
    "weights",
    lambda m: setattr(
        m, "weights", m.ciphertexts[1].ljust(64, b"\0") + m.ciphertexts[0]
    ),
)
case("padding that is not zero", TAMPERED, "weights", flips("weights", 40))
case(
    "a tensor of another file of the same key",
    TAMPERED,
    "weights",
    lambda m: setattr(
        m,
        "weights",
        File(salt=bytes(32)).tensor(0, "w", W)[0].ljust(64, b"\0") + m.ciphertexts[1],
    ),
)
case(
    "a graph of another opset",
    BAD,
    "start",
    lambda m: setattr(m, "graph", graph(opset=19)),
)
case(
    "a graph that is no ONNX", BAD, "start", lambda m: setattr(m, "graph", b"\xff" * 40)
)
case(
    "a graph that lacks a tensor",
    BAD,
    "start",
    lambda m: setattr(m, "graph", graph([outside("w")])),
)
case(
    "a graph with a tensor more",
    BAD,
    "start",
    lambda m: setattr(m, "graph", graph([outside("w"), outside("b"), outside("c")])),
)
case(
    "two tensors at one place",
    BAD,
    "start",
    lambda m: setattr(m, "graph", graph([outside("w", "b"), outside("b")])),
)

# grants
case("opened by another identity", WRONG, identity=OTHER.hex())
case("before the first day", "NotYetValid", today="2025-12-31")
case("on the first day", "ok", today="2026-01-01")
case("on the last day", "ok", today="2026-12-31")
case("after the last day", "Expired", today="2027-01-01")
case(
    "a grant signed by a stranger",
    FOREIGN,
    "grant",
    lambda m: setattr(m, "signer", STRANGER),
)
case(
    "a grant that names a stranger and is signed by him",
    "ok",
    "grant",
    do(
        sets("grant.signer", pem(STRANGER).decode()),
        lambda m: setattr(m, "signer", STRANGER),
    ),
)
case(
    "the same, where the owner is pinned",
    FOREIGN,
    "grant",
    do(
        sets("grant.signer", pem(STRANGER).decode()),
        lambda m: setattr(m, "signer", STRANGER),
    ),
    **PIN,
)
for name, value in (
    ("licensee", "Hospital B"),
    ("terms", ""),
    ("not_after", "2099-12-31"),
    ("not_before", None),
    ("issued", "2020-01-01T00:00:00Z"),
    ("grant_id", "13" * 16),
    ("revocations", 0),
):
    case(
        f"a grant whose {name} changed after it was wrapped",
        WRONG,
        "wrapped",
        sets(f"grant.{name}", value),
    )
case("a grant of another file", WRONG, "grant", sets("grant.bundle_sha256", "00" * 32))
case("a grant of another model", WRONG, "grant", sets("grant.protection_id", "00" * 16))
case("a grant of another owner's key", WRONG, "grant", sets("grant.key_id", "00" * 8))
case(
    "a grant readdressed to another",
    WRONG,
    "wrapped",
    sets("grant.recipient", identity(OTHER)[1]),
    identity=OTHER.hex(),
)
case(
    "a grant wrapped for another than it names",
    WRONG,
    "grant",
    lambda m: setattr(m, "recipient", OTHER),
)
case(
    "a grant that wraps half",
    WRONG,
    "wrapped",
    lambda m: m.grant.update(wrapped=m.grant["wrapped"][:64]),
)
case("a grant that wraps nothing", WRONG, "wrapped", sets("grant.wrapped", ""))
case("a grant that wraps no keys", BAD, "wrapped", lambda m: m.wrap(b"{}"))
case(
    "a grant that wraps another file's key",
    TAMPERED,
    "wrapped",
    lambda m: m.wrap(canonical({"content_key": "00" * 32, "subkeys": {}})),
)
case("a grant with an unknown field", FOREIGN, "grant", sets("grant.extra", 1))
case(
    "a grant that ends before it begins",
    FOREIGN,
    "grant",
    sets("grant.not_before", "2027-01-01"),
)
case("a day that is none", FOREIGN, "grant", sets("grant.not_after", "2026-02-30"))
case(
    "a licensee with control characters",
    FOREIGN,
    "grant",
    sets("grant.licensee", "\x1b[2J"),
)
case(
    "a later format of grants",
    FOREIGN,
    "grant",
    sets("grant.format", "mlguard.grant/2"),
)
case(
    "a grant that is not canonical",
    FOREIGN,
    "signed",
    lambda m: m.members.update(
        {
            "grant.json": envelope(
                canonical(m.grant) + b" ", "application/vnd.mlguard.grant+json"
            )
        }
    ),
)
case(
    "a signed text of another kind",
    FOREIGN,
    "signed",
    lambda m: m.members.update(
        {"grant.json": envelope(canonical(m.grant), "application/json")}
    ),
)
case(
    "a grant without an envelope",
    FOREIGN,
    "signed",
    lambda m: m.members.update({"grant.json": canonical(m.grant)}),
)

# signatures of the whole, where a signer is pinned
case(
    "no signature, and nobody pinned",
    "ok",
    "members",
    lambda m: m.members.pop("model.sig"),
)
case(
    "no signature where a signer is pinned",
    FOREIGN,
    "members",
    lambda m: m.members.pop("model.sig"),
    **PIN,
)
case(
    "a stranger's signature of the file",
    FOREIGN,
    "members",
    lambda m: m.members.update({"model.sig": m.sign(STRANGER)}),
    **PIN,
)
case(
    "a signature of other weights",
    TAMPERED,
    "members",
    lambda m: m.members.update(
        {"model.sig": m.sign(**{"weights.bin": "00" * 32, "model.sig": None})}
    ),
    **PIN,
)
case(
    "a signature that leaves out the grant",
    TAMPERED,
    "members",
    lambda m: m.members.update(
        {"model.sig": m.sign(**{"grant.json": None, "model.sig": None})}
    ),
    **PIN,
)


def revoked(sequence, grants, key=OWNER, kind="revocations", **changes):
    text = {
        "format": "mlguard.revocations/1",
        "sequence": sequence,
        "issued": "2026-01-02T00:00:00Z",
        "grants": grants,
    } | changes
    signed = envelope(canonical(text), f"application/vnd.mlguard.{kind}+json", key)
    return {"revocations": base64.b64encode(signed).decode()}


case("a list without the grant", "ok", **revoked(3, ["00" * 16]))
case("a list with the grant", "Revoked", **revoked(4, [GRANT_ID]))
case("a list older than the grant knows", "Revoked", **revoked(2, []))
case("a stranger's list", FOREIGN, **revoked(9, [], STRANGER))
case("a list that is not sorted", FOREIGN, **revoked(9, ["01" * 16, "00" * 16]))
case("a list with a grant twice", FOREIGN, **revoked(9, ["01" * 16] * 2))
case("a list with an unknown field", FOREIGN, **revoked(9, [], extra=1))
case("a list of another kind", FOREIGN, **revoked(9, [], kind="grant"))
case(
    "a later format of lists", FOREIGN, **revoked(9, [], format="mlguard.revocations/2")
)

if __name__ == "__main__":
    value = {
        "comment": "bundle: zlib, then base64. Unless a case says otherwise: "
        "identity, today as here, no signer pinned, no list.",
        "identity": MINE.hex(),
        "today": TODAY,
        "tensors": {"w": W.hex(), "b": B.hex()},
        "cases": CASES,
    }
    out = Path(__file__).with_name("issued.json")
    out.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    print(len(CASES), "cases")
