"""A signed text: DSSE in a Sigstore bundle, read within limits.

docs/spec/signing-v1.md, section 2. The payload's type is under the signature, so that a
revocation list is never taken for a model's signature.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlguard.errors import SignatureNotTrusted
from mlguard.signing.keys import PublicSigner, Signer

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_FIELDS = {"mediaType", "dsseEnvelope", "verificationMaterial"}
ENVELOPE_FIELDS = {"payload", "payloadType", "signatures"}
MAX_ENVELOPE_BYTES = 1 << 20  # names and hashes of a few files


@dataclass(frozen=True)
class Envelope:
    """The contents of a signature file, before they are checked.

    Attributes:
        payload: The signed bytes.
        payload_type: Their type.
        signature: ECDSA in DER.
        signer_id: The hint that says which key signed; empty if it is missing.
    """

    payload: bytes
    payload_type: str
    signature: bytes
    signer_id: str

    def open(self, signers: Sequence[PublicSigner], *, name: str) -> PublicSigner:
        """Return the trusted signer who signed.

        Raises:
            SignatureNotTrusted: None of them did.
        """
        signed = pre_authentication(self.payload_type, self.payload)
        for signer in signers:
            if self.signer_id not in ("", signer.signer_id):
                continue
            if signer.accepts(self.signature, signed):
                return signer
        if self.signer_id in {signer.signer_id for signer in signers}:
            raise SignatureNotTrusted(
                f"the signature of {self.signer_id[:16]} on {name} is invalid: the "
                "files were changed, or this signer did not sign them"
            )
        trusted = ", ".join(signer.shown for signer in signers) or "nobody"
        claimed = self.signer_id[:16] or "an unnamed key"
        raise SignatureNotTrusted(
            f"{name} claims to be signed by {claimed}, which is not one of the "
            f"trusted signers ({trusted})"
        )


def seal_envelope(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    """Sign a text, and return the signature file."""
    signature = signer.sign(pre_authentication(payload_type, payload))
    envelope = {
        "payload": _encode(payload),
        "payloadType": payload_type,
        "signatures": [{"keyid": "", "sig": _encode(signature)}],
    }
    material = {"publicKey": {"hint": signer.public.signer_id}, "tlogEntries": []}
    bundle = {
        "dsseEnvelope": envelope,
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material,
    }
    return json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode()


def read_envelope(data: bytes, *, name: str) -> Envelope:
    """Read a signature file, without checking the signature yet.

    Args:
        data: The file.
        name: The name of the file in a refusal.

    Raises:
        SignatureNotTrusted: It is not a signature that this reader knows.
    """
    bundle = read_json(data, name=name)
    try:
        if bundle["mediaType"] != MEDIA_TYPE:
            raise ValueError
        envelope = bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        material = bundle["verificationMaterial"]
        key = material.get("publicKey", {})
        for fields, known in (
            (bundle, BUNDLE_FIELDS),
            (envelope, ENVELOPE_FIELDS),
            (signature, {"sig", "keyid"}),
            (material, {"publicKey", "tlogEntries"}),
            (key, {"hint"}),
        ):
            if not set(fields) <= known:
                raise ValueError
        if material.get("tlogEntries") or signature.get("keyid"):
            raise ValueError
        return Envelope(
            payload=_decode(envelope["payload"]),
            payload_type=_text(envelope["payloadType"]),
            signature=_decode(signature["sig"]),
            signer_id=_text(key.get("hint", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SignatureNotTrusted(
            f"{name} is not a key-based signature as defined by OpenSSF Model Signing "
            "v1.0"
        ) from None


def read_json(data: bytes, *, name: str) -> dict[str, Any]:
    """Read an untrusted JSON object; no key may appear twice.

    Raises:
        SignatureNotTrusted: It is not a JSON object, or too large.
    """
    try:
        if len(data) > MAX_ENVELOPE_BYTES:
            raise ValueError
        value = json.loads(data.decode(), object_pairs_hook=_once)
        if not isinstance(value, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise SignatureNotTrusted(
            f"{name} is not a JSON object of at most {MAX_ENVELOPE_BYTES} bytes"
        ) from None
    return value


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE v1's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a line of text")
    return value


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
