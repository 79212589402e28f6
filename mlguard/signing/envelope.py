"""A signed text: DSSE in a Sigstore bundle, read in bounds and before it is believed.

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
    """What a signature file says, before anybody has checked it.

    Attributes:
        payload: The signed bytes.
        payload_type: What they are.
        signature: ECDSA in DER.
        signer_id: The hint which key signed; empty where there is none.
    """

    payload: bytes
    payload_type: str
    signature: bytes
    signer_id: str

    def open(self, signers: Sequence[PublicSigner], *, name: str) -> PublicSigner:
        """Say which of the trusted signers signed.

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
                f"the signature of {self.signer_id[:16]} on {name} does not hold: what "
                "was signed was changed, or he did not sign it"
            )
        trusted = ", ".join(signer.shown for signer in signers) or "nobody"
        claimed = self.signer_id[:16] or "an unnamed key"
        raise SignatureNotTrusted(
            f"{name} claims the signature of {claimed}, and not one of the trusted "
            f"signers ({trusted}) made it"
        )


def seal_envelope(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    """Sign a text and give the file."""
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
    """Read a signature file. Nothing in it is believed yet.

    Args:
        data: The file.
        name: What to call it in a refusal.

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
            f"{name} is not a signature by a key as OpenSSF Model Signing v1.0 has it"
        ) from None


def read_json(data: bytes, *, name: str) -> dict[str, Any]:
    """Read a JSON object that nobody vouches for; no key may stand twice.

    Raises:
        SignatureNotTrusted: It is none, or too large.
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
    """What is signed: DSSE v1's pre-authentication encoding."""
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
